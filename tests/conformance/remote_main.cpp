// The suite on the test backend `remote`, which also watches that the rules of backend.hpp are
// kept.
#include <cstdio>

#include "backends/remote/remote.hpp"
#include "tests/conformance/devices.hpp"

int main(int argc, char** argv) {
  tessera::remote::register_remote_provider();
  const int failed = tessera::test::run_conformance(argc, argv, {{"remote"}});
  const tessera::remote::RemoteReport report = tessera::remote::remote_report();
  for (const std::string& breach : report.breaches) std::printf("breach: %s\n", breach.c_str());
  return failed != 0 || !report.breaches.empty() || report.failed_workers != 0;
}
