#include "samples/common/report.hpp"

#include <cstdio>

namespace common {

double tokens_per_second(const tsr::Report& report) {
  if (report.tokens_generated < 2 || report.generate_us == 0) return 0;
  return 1e6 * static_cast<double>(report.tokens_generated - 1) /
         static_cast<double>(report.generate_us);
}

std::string format_report(const tsr::Report& report) {
  const auto n = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  const std::uint64_t prompt = report.tokens_exact + report.tokens_repaired +
                               report.tokens_approximate + report.tokens_computed;
  char text[320];
  std::snprintf(text, sizeof text,
                "prompt %llu tokens: %llu exact, %llu repaired, %llu approximate, %llu computed\n"
                "first token after %.0f ms, then %.1f tokens/s (%llu tokens)",
                n(prompt), n(report.tokens_exact), n(report.tokens_repaired),
                n(report.tokens_approximate), n(report.tokens_computed),
                static_cast<double>(report.first_token_us) / 1e3, tokens_per_second(report),
                n(report.tokens_generated));
  if (report.tokens_drafted == 0) return text;
  return text + (", " + std::to_string(report.tokens_accepted) + " of " +
                 std::to_string(report.tokens_drafted) + " drafted ones right");
}

nlohmann::json report_json(const tsr::Report& report) {
  return {{"tokens_exact", report.tokens_exact},
          {"tokens_repaired", report.tokens_repaired},
          {"tokens_approximate", report.tokens_approximate},
          {"tokens_computed", report.tokens_computed},
          {"tokens_generated", report.tokens_generated},
          {"bytes_shared", report.bytes_shared},
          {"bytes_private", report.bytes_private},
          {"lookup_us", report.lookup_us},
          {"load_us", report.load_us},
          {"repair_us", report.repair_us},
          {"prompt_us", report.prompt_us},
          {"first_token_us", report.first_token_us},
          {"generate_us", report.generate_us},
          {"tokens_drafted", report.tokens_drafted},
          {"tokens_accepted", report.tokens_accepted},
          {"tokens_per_second", tokens_per_second(report)}};
}

}  // namespace common
