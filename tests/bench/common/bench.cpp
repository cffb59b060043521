#include "tests/bench/common/bench.hpp"

#include <stdexcept>

namespace bench {

Bench::Bench(const tsr::Model& m, std::uint32_t thread_count, const std::string& json)
    : model(m), threads(thread_count) {
  if (json.empty()) return;
  json_.open(json);
  if (!json_) throw std::runtime_error(json + " cannot be written");
}

void Bench::log(const nlohmann::json& row) {
  if (!json_.is_open()) return;
  json_ << row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  if (!json_) throw std::runtime_error("the JSON file could not be written");
}

}  // namespace bench
