// tessera-remote-worker: the process behind one `remote` backend. It serves the socket at
// descriptor kWorkerSocket with the CPU device and ends when that closes.
#include <fcntl.h>

#include <cstdio>
#include <exception>

#include "backends/registry.hpp"
#include "backends/remote/worker/service.hpp"

int main() {
  using namespace tessera;
  if (::fcntl(remote::kWorkerSocket, F_GETFD) < 0) {
    std::fprintf(stderr,
                 "tessera-remote-worker: serves the test backend `remote` over descriptor %d; "
                 "it is started by that backend, not by hand\n",
                 remote::kWorkerSocket);
    return 2;
  }
  try {
    remote::Service service(remote::kWorkerSocket, [](const BackendOptions& options) {
      return open_device("cpu", options);
    });
    service.run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera-remote-worker: %s\n", error.what());
    return 3;
  }
  return 0;
}
