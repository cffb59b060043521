// The worker's service, in this process, over a raw socket and with a toy device.
#include "backends/remote/worker/service.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <thread>

#include "backends/error.hpp"
#include "tests/unit/remote/samples.hpp"
#include "tests/unit/remote/toy_device.hpp"

namespace tessera::remote::test {
namespace {

class ServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0);
    thread_ = std::thread([this] {
      try {
        Service service(ends_[1], [this](const BackendOptions& options) {
          return make_toy_device(options, faults_);
        });
        service.run();
      } catch (const Error& error) {
        end_ = error.status();
      }
      ::shutdown(ends_[1], SHUT_RDWR);
    });
  }
  void TearDown() override {
    end();
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  // Ends the stream; how the service ended, when that was by an error.
  std::optional<Status> end() {
    ::shutdown(ends_[0], SHUT_WR);
    if (thread_.joinable()) thread_.join();
    return end_;
  }

  void send_body(uint64_t lane, const Bytes& body) {
    send_frame(ends_[0], {.lane = lane, .request = ++request_}, body);
  }
  // The next reply; `error` tells its kind.
  Bytes receive(bool& error) {
    FrameHeader header;
    Bytes body;
    EXPECT_TRUE(receive_frame(ends_[0], header, body));
    EXPECT_NE(header.kind, FrameKind::request);
    error = header.kind == FrameKind::error;
    answered_ = header.request;
    return body;
  }
  template <class Request>
  typename Request::Reply reply() {
    bool error = false;
    const Bytes body = receive(error);
    if (error) {
      const auto failure = decode<Failure>("error", body);
      fail(failure.status, failure.message);
    }
    return decode<typename Request::Reply>("reply", body);
  }
  template <class Request>
  typename Request::Reply call(Request request) {
    send_body(0, encode(DeviceRequest(std::move(request))));
    return reply<Request>();
  }
  template <class Request>
  typename Request::Reply call(uint64_t lane, Request request) {
    // Weights stand for their ids: this end has no objects.
    send_body(lane, encode(PageRequest(std::move(request)), [](const Weight* weight) {
                return reinterpret_cast<uintptr_t>(weight);
              }));
    return reply<Request>();
  }
  template <class F>
  void expect_status(Status status, F call) {
    try {
      call();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), status) << error.what();
    }
  }

  uint64_t load_weight(uint8_t seed) {
    const uint64_t id = call(BeginWeight{{.name = "w", .rows = 3, .columns = 5}});
    call(WeightPart{.id = id, .data = Bytes(40, seed)});
    call(WeightPart{.id = id, .data = Bytes(20, static_cast<uint8_t>(seed + 1))});
    EXPECT_EQ(call(EndWeight{id}), 60u);
    return id;
  }
  uint64_t create_pages() { return call(CreatePages{.layout = layout_, .counts = {3, 2}}).id; }
  static Graph graph_with(const std::vector<uint64_t>& weights) {
    return sample_graph([&](size_t i) {
      return reinterpret_cast<const Weight*>(static_cast<uintptr_t>(weights[i % weights.size()]));
    });
  }

  std::shared_ptr<ToyFaults> faults_ = std::make_shared<ToyFaults>();
  const KvLayout layout_{.type = KvType::f32,
                         .page_slots = 8,
                         .groups = {{.layers = {0}, .kv_heads = 1, .head_dim = 4},
                                    {.layers = {1, 2}, .kv_heads = 1, .head_dim = 4}}};
  int ends_[2];
  std::thread thread_;
  std::optional<Status> end_;
  uint64_t request_ = 0;
  uint64_t answered_ = 0;
};

TEST_F(ServiceTest, HelloOpensTheDevice) {
  expect_status(Status::invalid_argument, [&] { create_pages(); });
  expect_status(Status::version_mismatch, [&] { call(Hello{.version = 99}); });
  EXPECT_EQ(call(Hello{.math = MathMode::reference}).name, "reference toy");
  expect_status(Status::invalid_argument, [&] { call(Hello{}); });
  EXPECT_EQ(end(), std::nullopt);
}

TEST_F(ServiceTest, WeightsArriveWhole) {
  call(Hello{});
  const uint64_t id = call(BeginWeight{{.name = "w", .rows = 3, .columns = 5}});
  expect_status(Status::invalid_argument, [&] { call(WeightPart{.id = id, .data = Bytes(61)}); });
  expect_status(Status::invalid_argument, [&] { call(WeightPart{.id = id + 1, .data = {}}); });
  expect_status(Status::invalid_argument, [&] { call(EndWeight{id}); });  // not complete: dropped
  expect_status(Status::invalid_argument, [&] { call(EndWeight{id}); });
  expect_status(Status::out_of_device_memory, [&] {
    call(BeginWeight{{.name = "w", .rows = UINT32_MAX, .columns = UINT32_MAX}});
  });
  const uint64_t whole = load_weight(1);
  const uint64_t half = call(BeginWeight{{.name = "h", .rows = 3, .columns = 5}});
  EXPECT_EQ(call(CountObjects{}), (RemoteStats{.weights = 2, .bytes = 60}));
  call(DropWeight{whole});
  call(DropWeight{half});
  expect_status(Status::invalid_argument, [&] { call(DropWeight{half}); });
  EXPECT_EQ(call(CountObjects{}), RemoteStats{});
}

TEST_F(ServiceTest, PagesAreCheckedAndCopied) {
  call(Hello{});
  EXPECT_EQ(call(PageBytes{.layout = layout_, .group = 1}), 512u);
  EXPECT_EQ(call(PageLayoutName{layout_}), "toy pages");
  const uint64_t lane = create_pages();
  EXPECT_EQ(call(CountObjects{}), (RemoteStats{.page_memories = 1, .bytes = 3 * 256 + 2 * 512}));
  EXPECT_EQ(call(lane, ReadPage{.group = 1, .page = 1}), Bytes(512));
  Bytes page(512);
  for (size_t i = 0; i < page.size(); ++i) page[i] = static_cast<uint8_t>(i * 7);
  call(lane, WritePage{.group = 1, .page = 0, .data = page});
  call(lane, CopyPage{.group = 1, .from = 0, .to = 1});
  EXPECT_EQ(call(lane, ReadPage{.group = 1, .page = 1}), page);
  expect_status(Status::invalid_argument, [&] { call(lane, ReadPage{.group = 2, .page = 0}); });
  expect_status(Status::invalid_argument, [&] { call(lane, ReadPage{.group = 1, .page = 2}); });
  expect_status(Status::invalid_argument, [&] { call(lane, CopyPage{.from = 0, .to = 3}); });
  expect_status(Status::invalid_argument,
                [&] { call(lane, WritePage{.group = 0, .page = 0, .data = page}); });
  expect_status(Status::invalid_argument, [&] { call(lane + 1, ReadPage{}); });
  call(DropPages{lane});
  expect_status(Status::invalid_argument, [&] { call(DropPages{lane}); });
  expect_status(Status::invalid_argument, [&] { call(lane, ReadPage{}); });
}

TEST_F(ServiceTest, ProgramsGetTheGraphAndStepAsSent) {
  call(Hello{});
  std::vector<uint64_t> weights;
  for (uint8_t i = 0; i < 11; ++i) weights.push_back(load_weight(i));
  const uint64_t lane = create_pages();
  const ProgramOptions options{.max_rows = 8, .threads = 2};
  const uint64_t program = call(lane, Compile{.graph = graph_with(weights), .options = options});
  call(lane, Plan{.program = program, .step = sample_step()});
  const StepResult result = call(lane, RunStep{.program = program});

  // The same on a toy without a service between.
  const auto toy = make_toy_device({}, faults_);
  std::vector<std::unique_ptr<Weight>> own;
  for (uint8_t i = 0; i < 11; ++i) {
    own.push_back(toy->load_weight({.name = "w", .rows = 3, .columns = 5},
                                   [i](uint64_t offset, void* out, uint64_t size) {
                                     auto* to = static_cast<uint8_t*>(out);
                                     for (uint64_t b = 0; b < size; ++b) {
                                       to[b] = static_cast<uint8_t>(i + (offset + b >= 40 ? 1 : 0));
                                     }
                                   }));
  }
  const auto pages = toy->create_pages(layout_, std::vector<uint32_t>{3, 2});
  const auto graph = sample_graph([&](size_t i) { return own[i].get(); });
  const auto direct = toy->compile(graph, *pages, options);
  direct->plan(sample_step());
  direct->submit();
  StepResult expected;
  direct->wait(expected);
  ASSERT_EQ(result.logits.size(), 2u);
  EXPECT_EQ(result.logits[0].top[0].token, expected.logits[0].top[0].token);

  expect_status(Status::invalid_argument, [&] {
    call(lane, Plan{.program = program, .step = Step{}});  // what the device says
  });
  expect_status(Status::invalid_argument, [&] { call(lane, RunStep{.program = 12345}); });
  expect_status(Status::internal, [&] { call(lane, RunStep{.program = program, .fails = true}); });
  weights[4] = 999;
  expect_status(Status::invalid_argument,
                [&] { call(lane, Compile{.graph = graph_with(weights), .options = options}); });
  EXPECT_EQ(call(CountObjects{}).programs, 1);
  // In the wrong order, which the backend notes, nothing is used after it is gone.
  for (size_t i = 0; i < weights.size(); ++i) {
    if (i != 4) call(DropWeight{weights[i]});
  }
  call(DropPages{lane});
  EXPECT_EQ(call(CountObjects{}).programs, 0);
}

TEST_F(ServiceTest, FailuresOfTheDeviceBecomeStatuses) {
  call(Hello{});
  const uint64_t lane = create_pages();
  const std::vector<uint64_t> weights = {load_weight(0)};
  const uint64_t program = call(lane, Compile{.graph = graph_with(weights), .options = {}});
  call(lane, Plan{.program = program, .step = sample_step()});
  *faults_ = {.no_memory = true, .no_host_memory = true, .breaks = true};
  expect_status(Status::out_of_device_memory, [&] { create_pages(); });
  expect_status(Status::out_of_device_memory,
                [&] { call(lane, Compile{.graph = graph_with(weights), .options = {}}); });
  expect_status(Status::internal, [&] { call(lane, RunStep{.program = program}); });
  EXPECT_EQ(call(CountObjects{}).page_memories, 1);
}

TEST_F(ServiceTest, ALongStepHoldsUpNothingElse) {
  call(Hello{});
  const std::vector<uint64_t> weights = {load_weight(0)};
  const uint64_t slow = create_pages();
  const uint64_t quick = create_pages();
  const uint64_t program = call(slow, Compile{.graph = graph_with(weights), .options = {}});
  call(slow, Plan{.program = program, .step = sample_step()});
  const auto start = std::chrono::steady_clock::now();
  send_body(slow, encode(PageRequest(RunStep{.program = program, .delay_us = 60'000'000})));
  const uint64_t run = request_;
  EXPECT_EQ(call(quick, ReadPage{}).size(), 256u);
  EXPECT_NE(answered_, run);
  EXPECT_EQ(call(CountObjects{}).programs, 1);
  EXPECT_NE(answered_, run);
  EXPECT_EQ(end(), std::nullopt);  // which cuts the delay short
  reply<RunStep>();
  EXPECT_EQ(answered_, run);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST_F(ServiceTest, GarbageRequestsAreRefusedOneByOne) {
  call(Hello{});
  const uint64_t lane = create_pages();
  for (const uint64_t to : {uint64_t{0}, lane}) {
    for (const Bytes& body : {Bytes{}, Bytes{255}, Bytes(100, 0xee), Bytes{3, 1, 2}}) {
      send_body(to, body);
      bool error = false;
      receive(error);
      EXPECT_TRUE(error);
    }
  }
  EXPECT_EQ(call(CountObjects{}).page_memories, 1);
  EXPECT_EQ(end(), std::nullopt);
}

TEST_F(ServiceTest, AStreamWithoutFramesEndsTheService) {
  const Bytes garbage(64, 0x11);
  ASSERT_EQ(::send(ends_[0], garbage.data(), garbage.size(), MSG_NOSIGNAL), 64);
  EXPECT_EQ(end(), Status::device_lost);
}

}  // namespace
}  // namespace tessera::remote::test
