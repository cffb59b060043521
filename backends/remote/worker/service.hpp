// The worker's side of the protocol: owns the device and what lives on it, and serves the requests
// that come over one socket.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/backend.hpp"
#include "backends/remote/frame.hpp"
#include "backends/remote/protocol.hpp"
#include "backends/remote/worker/lane.hpp"

namespace tessera::remote {

// Requests of lane 0 are served by one thread, those of each page memory by one more, so that
// programs over different page memories run side by side. Every request gets one reply.
class Service {
 public:
  using OpenDevice = std::function<std::unique_ptr<Backend>(const BackendOptions&)>;

  // The socket stays the caller's.
  Service(int socket, OpenDevice open);
  // Finishes what is under way and drops everything.
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Serves until the stream ends. Throws device_lost when it holds no frame.
  void run();

 private:
  // A weight whose parts are arriving.
  struct Arriving {
    WeightDesc desc;
    uint64_t bytes = 0;  // when complete
    Bytes data;
  };
  struct LoadedProgram {
    std::vector<std::shared_ptr<const Weight>> weights;  // kept as long as the program
    std::unique_ptr<Program> program;
  };
  struct Pages {
    uint64_t id = 0;
    std::vector<uint32_t> counts;      // pages by group
    std::vector<uint64_t> page_bytes;  // by group
    std::unique_ptr<PageMemory> memory;
    std::map<uint64_t, LoadedProgram> programs;  // used in the lane, and after it has ended
    std::atomic<int64_t> program_count{0};       // for CountObjects
    Lane lane;                                   // last: its tasks use the rest
  };

  void accept(const FrameHeader& header, Bytes body);
  // Decodes a request, does it and sends the reply; throws nothing.
  template <class Requests, class Handler>
  void serve(const FrameHeader& header, const Bytes& body, const Decoder::Weights& weights,
             Handler handler) noexcept;
  void send(const FrameHeader& request, FrameKind kind, const Bytes& body) noexcept;
  void send_failure(const FrameHeader& request, Status status, const std::string& message) noexcept;

  Backend& device() const;
  DeviceInfo handle(Hello& request);
  uint64_t handle(BeginWeight& request);
  Done handle(WeightPart& request);
  uint64_t handle(EndWeight& request);
  Done handle(DropWeight& request);
  uint64_t handle(PageBytes& request);
  std::string handle(PageLayoutName& request);
  CreatedPages handle(CreatePages& request);
  Done handle(DropPages& request);
  RemoteStats handle(CountObjects& request);

  // `used` are the weights of the request's graph.
  using Used = std::vector<std::shared_ptr<const Weight>>;
  Bytes handle(Pages& pages, Used& used, ReadPage& request);
  Done handle(Pages& pages, Used& used, WritePage& request);
  Done handle(Pages& pages, Used& used, CopyPage& request);
  uint64_t handle(Pages& pages, Used& used, Compile& request);
  Done handle(Pages& pages, Used& used, Plan& request);
  StepResult handle(Pages& pages, Used& used, RunStep& request);
  Done handle(Pages& pages, Used& used, DropProgram& request);

  int socket_;
  OpenDevice open_;
  std::mutex send_mutex_;
  std::atomic<uint64_t> last_id_{0};
  std::unique_ptr<Backend> backend_;       // lane 0 only, but for calls through `device()`
  std::map<uint64_t, Arriving> arriving_;  // lane 0 only

  std::mutex mutex_;  // of the maps
  std::map<uint64_t, std::shared_ptr<const Weight>> weights_;
  std::map<uint64_t, std::shared_ptr<Pages>> pages_;
  std::unique_ptr<Lane> lane_;  // lane 0
};

}  // namespace tessera::remote
