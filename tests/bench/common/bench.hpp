// What the measurements of a program share: the model, and where rows go.
#pragma once

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <tessera/tessera.hpp>

namespace bench {

class Bench {
 public:
  // `json` is a file, or empty. Throws std::runtime_error.
  Bench(const tsr::Model& model, std::uint32_t threads, const std::string& json);

  const tsr::Model& model;
  const std::uint32_t threads;

  // Writes a row to the JSON file, if there is one.
  void log(const nlohmann::json& row);

 private:
  std::ofstream json_;
};

}  // namespace bench
