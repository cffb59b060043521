// Host memory runs out at every allocation that a request makes, on the engine's thread or the
// caller's. A program of its own: it replaces operator new and mmap.
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <new>
#include <thread>

#include "backends/cpu/plan.hpp"
#include "backends/remote/remote.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace {

std::atomic<int64_t> g_before{-1};  // allocations that still succeed; negative: no fault
std::atomic<int64_t> g_length{0};   // how many fail then
std::atomic<int64_t> g_failed{0};
std::atomic<int64_t> g_count{0};          // allocations, ever
thread_local int64_t g_before_here = -1;  // like g_before, of this thread's only, one fails
std::atomic<int64_t> g_maps_before{-1};   // like g_before, of maps only, one fails

bool allocation_fails() {
  g_count.fetch_add(1, std::memory_order_relaxed);
  if (g_before_here >= 0 && g_before_here-- == 0) {
    ++g_failed;
    return true;
  }
  if (g_before.load(std::memory_order_relaxed) < 0) return false;
  const int64_t left = g_before.fetch_sub(1);
  if (left > 0) return false;
  if (left < 0) return false;  // another thread was quicker
  ++g_failed;
  if (--g_length > 0) g_before = 0;
  return true;
}

[[maybe_unused]] bool map_fails() {
  if (g_maps_before >= 0 && g_maps_before-- == 0) {
    ++g_failed;
    return true;
  }
  return allocation_fails();
}

void* allocate(std::size_t size) {
  if (allocation_fails()) throw std::bad_alloc();
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}

void* allocate(std::size_t size, std::align_val_t alignment) {
  if (allocation_fails()) throw std::bad_alloc();
  const auto align = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}

}  // namespace

#ifdef __SANITIZE_THREAD__  // maps its shadow by mmap, before this program could answer
constexpr bool kMapsFail = false;
#else
constexpr bool kMapsFail = true;

// The C library's own maps, of thread stacks and of malloc, do not come by here.
extern "C" void* mmap(void* at, std::size_t size, int access, int flags, int file,
                      off_t offset) noexcept {
  static const auto system = reinterpret_cast<decltype(&mmap)>(dlsym(RTLD_NEXT, "mmap"));
  if ((flags & MAP_ANONYMOUS) != 0 && map_fails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return system(at, size, access, flags, file, offset);
}
#endif

void* operator new(std::size_t size) {
  return allocate(size);
}
void* operator new[](std::size_t size) {
  return allocate(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, alignment);
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate(size, alignment);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace tessera::test {
namespace {

constexpr uint32_t kNewTokens = 10;

// What a request ended with. Filled without an allocation of its own.
struct Outcome {
  tsr_status started = TSR_OK;  // of tsr_session_generate
  tsr_status status = TSR_OK;   // of a FAILED event
  tsr_finish finish = TSR_FINISH_NONE;
  uint64_t tokens = 0;
  int silent = 0;   // calls that failed without a message
  int strange = 0;  // calls that failed otherwise than for memory
};

enum class Ask {
  plain,       // greedy
  everything,  // and drafts, log-probabilities, a penalty and a bias too small to matter
  drawn,       // from the likeliest of all tokens, with log-probabilities
};

void note(Outcome& outcome, tsr_status status) {
  if (status == TSR_OK) return;
  outcome.silent += tsr_last_error()[0] == '\0';
  outcome.strange += status != TSR_OUT_OF_HOST_MEMORY;
}

Outcome start(tsr_session session, Ask ask) {
  Outcome outcome;
  tsr_generate_options options{};
  options.struct_size = sizeof options;
  options.max_tokens = kNewTokens;
  options.flags = TSR_GENERATE_IGNORE_END;
  tsr_text stop{"\x01\x02 a stop that never comes", TSR_NUL_TERMINATED};
  options.stops = &stop;
  options.stop_count = 1;
  const tsr_logit_bias bias{7, 1e-30f};
  if (ask == Ask::everything) {
    options.lookup_tokens = 4;
    options.logprobs = 2;
    options.presence_penalty = 1e-30f;
    options.biases = &bias;
    options.bias_count = 1;
  } else if (ask == Ask::drawn) {
    options.temperature = 1;
    options.top_p = 0.9f;
    options.seed = 5;
    options.logprobs = 3;
  }
  outcome.started = tsr_session_generate(session, &options);
  note(outcome, outcome.started);
  return outcome;
}

void read_to_end(tsr_session session, Outcome& outcome) {
  while (outcome.started == TSR_OK) {
    tsr_event event{};
    event.struct_size = sizeof event;
    const tsr_status status = tsr_session_next(session, TSR_WAIT_FOREVER, &event);
    note(outcome, status);
    if (status != TSR_OK) continue;  // the event is still there
    if (event.kind == TSR_EVENT_FAILED) {
      outcome.status = event.status;
      outcome.silent += event.text_length == 0;
      return;
    }
    if (event.kind == TSR_EVENT_DONE) {
      outcome.finish = event.finish;
      outcome.tokens = event.tokens;
      return;
    }
    if (event.kind == TSR_EVENT_NONE) {
      ++outcome.strange;
      return;
    }
  }
}

Outcome request(tsr_session session, Ask ask = Ask::plain) {
  Outcome outcome = start(session, ask);
  read_to_end(session, outcome);
  return outcome;
}

// Whether the request failed, which must have been for memory, and said so.
bool expect_answer_or_failure(const Outcome& outcome) {
  EXPECT_EQ(outcome.silent, 0);
  EXPECT_EQ(outcome.strange, 0);
  if (outcome.started == TSR_OK && outcome.status == TSR_OK) {
    EXPECT_EQ(outcome.finish, TSR_FINISH_LENGTH);
    EXPECT_EQ(outcome.tokens, kNewTokens);
    return false;
  }
  EXPECT_TRUE(outcome.started == TSR_OUT_OF_HOST_MEMORY || outcome.status == TSR_OUT_OF_HOST_MEMORY)
      << tsr_status_name(outcome.status);
  return true;
}

// The same for a chunk that is encoded, waited for and evaluated.
Outcome chunk_request(tsr_context context, tsr_session session, std::vector<float>& row) {
  Outcome outcome;
  const auto keep = [&](tsr_status status) {
    outcome.started = status;
    if (status == TSR_OK) return true;
    outcome.silent += tsr_last_error()[0] == '\0';
    outcome.strange += status != TSR_OUT_OF_HOST_MEMORY;
    return false;
  };
  tsr_chunk chunk = nullptr;
  uint64_t count = 0;
  if (keep(tsr_chunk_create_text(context, "0123456789", 10, nullptr, &chunk)) &&
      keep(tsr_chunk_wait(chunk, TSR_WAIT_FOREVER)) &&
      keep(tsr_session_add_chunk(session, chunk))) {
    keep(tsr_session_evaluate(session, TSR_LOGITS_LAST, row.data(), row.size(), &count));
  }
  tsr_chunk_destroy(chunk);
  return outcome;
}

// Of whoever failed: what it has is what it would have had.
void expect_begins(const std::vector<int32_t>& wanted, const std::vector<int32_t>& tokens) {
  ASSERT_LE(tokens.size(), wanted.size());
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), wanted.begin()));
}

class HostMemory : public EngineTest {
 protected:
  // A session whose next request is put together.
  using Setup = tsr::Session (*)(const tsr::Context& context);

  static tsr::ContextOptions options() {
    tsr::ContextOptions options = small(64);
    static const std::string anchor = "<|im_start|>anchor";
    options.set_anchor(anchor);
    if (!folder_.empty()) options.set_cache_folder(folder_);
    return options;
  }
  static inline std::string folder_;  // of the disk tier; empty: none

  // Fails `length` allocations from the n-th on, for every `stride`-th n.
  void run(Setup setup, int64_t length, int64_t stride, Ask ask = Ask::plain) {
    std::vector<int32_t> wanted;
    {
      const tsr::Context context = this->context(options());
      tsr::Session session = setup(context);
      EXPECT_EQ(request(session.get(), ask).finish, TSR_FINISH_LENGTH);
      if (ask == Ask::everything) {
        EXPECT_GT(session.report().tokens_drafted, 0u);
      }
      wanted = session.tokens();
    }
    int64_t n = 0;
    int failed = 0;
    for (; !HasFailure(); n += stride) {
      SCOPED_TRACE("allocation " + std::to_string(n));
      const tsr::Context context = this->context(options());
      tsr::Session session = setup(context);
      g_length = length;
      g_failed = 0;
      g_before = n;
      const Outcome outcome = request(session.get(), ask);
      g_before = -1;
      const bool fired = g_failed > 0;
      failed += expect_answer_or_failure(outcome);
      expect_idle(context);
      expect_begins(wanted, session.tokens());
      if (ask == Ask::drawn) {
        session = setup(context);
        expect_answer_or_failure(request(session.get(), ask));
      } else {  // goes on where it stood
        const uint64_t left = wanted.size() - session.info().tokens;
        if (left > 0) generate(session, greedy(static_cast<uint32_t>(left)));
      }
      EXPECT_EQ(session.tokens(), wanted);
      session.reset();
      expect_only_caches(context);
      if (!fired) break;
    }
    EXPECT_GT(failed, 30) << "of " << n << " allocations";
    std::cout << n << " allocations, " << failed << " requests failed\n";
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, HostMemory, testing::Values("cpu"));

tsr::Session text_only(const tsr::Context& context) {
  tsr::Session session(context);
  session.add_text(digits(20, 1));
  return session;
}

tsr::Session repetition(const tsr::Context& context) {
  tsr::Session session(context);
  session.add_text("ababababab");
  return session;
}

tsr::Session chunks_and_text(const tsr::Context& context) {
  tsr::Session session(context);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  const tsr::Chunk ready(context, digits(9, 2)), absent(context, digits(12, 3), lazy);
  EXPECT_TRUE(ready.wait());
  session.add_anchor();
  session.add_chunk(ready);
  session.add_text("x");
  session.add_chunk(absent);
  session.add_text("?");
  return session;
}

tsr::Session chunk_last(const tsr::Context& context) {
  tsr::Session session(context);
  const tsr::Chunk ready(context, digits(16, 2));
  EXPECT_TRUE(ready.wait());
  session.add_anchor();
  session.add_chunk(ready);
  return session;
}

// The second session of two that begin alike, after an evaluation, with pages to take over.
tsr::Session prefix_and_turns(const tsr::Context& context) {
  tsr::Session first(context), session(context);
  first.add_text(digits(40, 4));
  first.evaluate();
  session.add_text(digits(40, 4).substr(0, 24));
  session.evaluate();
  return session;
}

// Chunks, one of them not encoded yet, whose heads or selected tokens are computed.
tsr::Session repaired(const tsr::Context& context, tsr_repair mode, uint64_t flags = 0) {
  tsr::SessionOptions options = repair(mode);
  options.head_tokens = 5;
  options.select_share = 0.5f;
  options.flags = flags;
  tsr::Session session(context, options);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  const tsr::Chunk ready(context, digits(9, 2)), absent(context, digits(12, 3), lazy);
  EXPECT_TRUE(ready.wait());
  session.add_text("x");
  session.add_chunk(ready);
  session.add_chunk(absent);
  session.add_text("so?");
  return session;
}
tsr::Session heads(const tsr::Context& context) {
  return repaired(context, TSR_REPAIR_HEAD);
}
tsr::Session selected(const tsr::Context& context) {
  return repaired(context, TSR_REPAIR_SELECT);
}
tsr::Session heads_and_selected(const tsr::Context& context) {
  return repaired(context, TSR_REPAIR_HEAD_SELECT);
}
tsr::Session second_turn(const tsr::Context& context) {
  tsr::Session session = heads_and_selected(context);
  session.evaluate();
  session.add_chunk(tsr::Chunk(context, digits(11, 4)));
  session.add_text("and?");
  return session;
}
tsr::Session reselected(const tsr::Context& context) {
  tsr::Session session = repaired(context, TSR_REPAIR_HEAD_SELECT, TSR_SESSION_RESELECT);
  session.evaluate();
  session.add_text("or?");
  return session;
}

TEST_P(HostMemory, RunsOutOnce) {
  for (const Setup setup : {text_only, chunks_and_text, chunk_last, prefix_and_turns}) {
    run(setup, 1, 1);
  }
}

TEST_P(HostMemory, RunsOutWhileChunksAreRepaired) {
  for (const Setup setup : {heads, selected, heads_and_selected, second_turn, reselected}) {
    run(setup, 1, 1);
    run(setup, INT64_MAX, 7);
  }
  run(heads_and_selected, 1, 3, Ask::everything);
}

TEST_P(HostMemory, RunsOutWithDraftsAndPenalties) {
  run(repetition, 1, 1, Ask::everything);
  run(chunks_and_text, 1, 3, Ask::everything);
  run(repetition, INT64_MAX, 3, Ask::everything);
}

TEST_P(HostMemory, RunsOutForADrawnAnswer) {
  run(text_only, 1, 1, Ask::drawn);
  run(chunks_and_text, 1, 3, Ask::drawn);
  run(text_only, INT64_MAX, 3, Ask::drawn);
}

// Sessions that share their steps, each asked in its own way.
class Together {
 public:
  Together(const tsr::Context& context, const std::array<uint64_t, 3>& prompts) {
    for (uint64_t i = 0; i < prompts.size(); ++i) {
      sessions_.emplace_back(context);
      sessions_.back().add_text(digits(prompts[i], i));
    }
  }

  // How many failed.
  int ask() {
    std::array<Outcome, 3> outcomes;
    for (size_t i = 0; i < kAsks.size(); ++i) outcomes[i] = start(sessions_[i].get(), kAsks[i]);
    for (size_t i = 0; i < kAsks.size(); ++i) read_to_end(sessions_[i].get(), outcomes[i]);
    g_before = g_maps_before = -1;
    int failed = 0;
    for (const Outcome& outcome : outcomes) failed += expect_answer_or_failure(outcome);
    return failed;
  }

  using Tokens = std::array<std::vector<int32_t>, 3>;
  Tokens tokens() const {
    return {sessions_[0].tokens(), sessions_[1].tokens(), sessions_[2].tokens()};
  }

 private:
  static constexpr std::array kAsks = {Ask::plain, Ask::everything, Ask::drawn};
  std::vector<tsr::Session> sessions_;
};

// Fails what `before` counts, every `stride`-th: whoever failed gets the same answer when it asks
// again. How many failed.
int run_together(const tsr::Model& model, const tsr::ContextOptions& options,
                 const std::array<uint64_t, 3>& prompts, std::atomic<int64_t>& before,
                 int64_t stride) {
  const Together::Tokens wanted = [&] {
    const tsr::Context context(model, options);
    Together sessions(context, prompts);
    EXPECT_EQ(sessions.ask(), 0);
    return sessions.tokens();
  }();
  int failed = 0;
  uint64_t fewest_steps = UINT64_MAX;
  for (int64_t n = 0; !testing::Test::HasFailure(); n += stride) {
    SCOPED_TRACE("after " + std::to_string(n));
    const tsr::Context context(model, options);
    {
      Together sessions(context, prompts);
      g_length = 1;
      g_failed = 0;
      before = n;
      failed += sessions.ask();
      for (size_t i = 0; i < wanted.size(); ++i) {
        expect_begins(wanted[i], sessions.tokens()[i]);
      }
    }
    expect_only_caches(context);
    const bool fired = g_failed > 0;
    const uint64_t steps = context.metrics().steps;
    {
      Together again(context, prompts);
      EXPECT_EQ(again.ask(), 0);
      EXPECT_EQ(again.tokens(), wanted);
    }
    expect_only_caches(context);
    fewest_steps = std::min(fewest_steps, context.metrics().steps - steps);
    if (!fired) break;
  }
  EXPECT_LT(fewest_steps, 2 * kNewTokens) << "nothing was computed together";
  return failed;
}

TEST_P(HostMemory, RunsOutInStepsOfSeveral) {
  EXPECT_GT(run_together(model(), options(), {20, 7, 30}, g_before, 2), 30);
}

// Attention over long contexts shares work among threads, in scratch that is mapped when a step
// first needs so much. A step without it fails all that are in it.
TEST_P(HostMemory, TheSystemHasNoneForAStep) {
  if (!kMapsFail) GTEST_SKIP() << "maps do not fail in this build";
  tsr::ContextOptions options = small(256);
  options.threads = 4;
  EXPECT_GT(run_together(model(), options, {7, 1100, 20}, g_maps_before, 1), 0);
}

// Weights, pages, activations and scratch.
TEST_P(HostMemory, TheSystemHasNoneForAModelOrAContext) {
  if (!kMapsFail) GTEST_SKIP() << "maps do not fail in this build";
  int64_t n = 0;
  for (; !HasFailure(); ++n) {
    SCOPED_TRACE("map " + std::to_string(n));
    std::string message;
    g_failed = 0;
    g_maps_before = n;
    const tsr_status status = status_of(
        [] {
          const tsr::Model model = load_model("cpu");
          const tsr::Context context(model, small());
        },
        &message);
    g_maps_before = -1;
    EXPECT_EQ(status, g_failed > 0 ? TSR_OUT_OF_HOST_MEMORY : TSR_OK);
    if (g_failed == 0) break;
    EXPECT_NE(message.find("the system has no"), std::string::npos) << message;
  }
  EXPECT_GE(n, 5);
}

TEST_P(HostMemory, RunsOutForAChunk) {
  std::vector<float> row(model().info().vocabulary);
  int64_t n = 0;
  for (; !HasFailure(); ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const tsr::Context context = this->context(options());
    tsr::Session session(context);
    session.add_anchor();
    g_length = 1;
    g_failed = 0;
    g_before = n;
    const Outcome outcome = chunk_request(context.get(), session.get(), row);
    g_before = -1;
    EXPECT_EQ(outcome.silent + outcome.strange, 0);
    expect_idle(context);
    EXPECT_EQ(session.evaluate().size(), row.size());
    session.reset();
    expect_only_caches(context);
    if (g_failed == 0) break;
  }
  EXPECT_GT(n, 100);
}

TEST_P(HostMemory, RunsOutForAGate) {
  const tsr_text texts[] = {{"0123456789", 10}, {"9876543210", 10}};
  tsr_session_options setting{};
  setting.struct_size = sizeof setting;
  setting.head_tokens = 3;
  setting.select_share = 0.2f;
  tsr_gate_options gate{};
  gate.struct_size = sizeof gate;
  gate.session = &setting;
  gate.texts = texts;
  gate.text_count = 2;
  gate.max_prompts = 1;
  gate.answer_tokens = 2;
  const auto measure = [&](const tsr::Context& context, tsr_gate_result& result) {
    result = {};
    result.struct_size = sizeof result;
    return tsr_context_gate(context.get(), &gate, &result);
  };
  tsr_gate_result wanted, result;
  ASSERT_EQ(measure(this->context(options()), wanted), TSR_OK);
  int failed = 0;
  int64_t n = 0;
  for (; !HasFailure(); n += 5) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const tsr::Context context = this->context(options());
    g_length = 1;
    g_failed = 0;
    g_before = n;
    const tsr_status status = measure(context, result);
    const bool told = tsr_last_error()[0] != '\0';
    g_before = -1;
    EXPECT_TRUE(status == TSR_OK || (status == TSR_OUT_OF_HOST_MEMORY && told))
        << tsr_status_name(status);
    failed += status != TSR_OK;
    EXPECT_EQ(context.gate_result(tsr::SessionOptions()).has_value(), false) << "another setting";
    expect_only_caches(context);
    const bool fired = g_failed > 0;
    EXPECT_EQ(measure(context, result), TSR_OK);
    EXPECT_EQ(result.kl_mean, wanted.kl_mean);
    expect_only_caches(context);
    if (!fired) break;
  }
  EXPECT_GT(failed, 30) << "of " << n << " allocations";
}

// Texts are read from files, or encoded and written.
TEST_P(HostMemory, RunsOutWithADiskTier) {
  const TempFolder temp;
  folder_ = temp.file("cache");
  {
    const tsr::Context context = this->context(options());
    tsr::Session session = chunks_and_text(context);
    EXPECT_EQ(request(session.get()).finish, TSR_FINISH_LENGTH);
    for (int i = 0; i < 20'000 && context.metrics().chunks_stored < 3; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  {
    const tsr::Context context = this->context(options());
    tsr::Session session = chunks_and_text(context);
    EXPECT_GT(context.metrics().chunks_loaded, 0u);
  }
  run(chunks_and_text, 1, 4);
  std::filesystem::remove_all(folder_);
  run(chunks_and_text, 1, 7);
  folder_.clear();
}

TEST_P(HostMemory, RunsOutAndStaysOut) {
  for (const Setup setup : {text_only, chunks_and_text, chunk_last, prefix_and_turns}) {
    run(setup, INT64_MAX, 3);
  }
}

// A session that is forked, taken back, saved and restored: done, or not and all as before.
TEST_P(HostMemory, RunsOutForSessionsAsValues) {
  const tsr::Context context = this->context(options());
  tsr::Session session = chunks_and_text(context);
  generate(session, greedy(kNewTokens));
  tsr::Session plain = chunks_and_text(context);
  generate(plain, greedy(kNewTokens));
  const std::vector<int32_t> tokens = session.tokens();
  std::vector<uint8_t> bytes = session.save();
  const std::vector<uint8_t> saved = bytes;
  const auto at_each = [&](auto call, auto expect_done) {
    int64_t n = 0;
    for (; !HasFailure(); ++n) {
      SCOPED_TRACE("allocation " + std::to_string(n));
      g_failed = 0;
      g_before_here = n;
      const tsr_status status = call();
      g_before_here = -1;
      EXPECT_EQ(status, g_failed > 0 ? TSR_OUT_OF_HOST_MEMORY : TSR_OK);
      expect_idle(context);
      if (g_failed == 0) break;
      EXPECT_EQ(session.tokens(), tokens);
    }
    EXPECT_GT(n, 2);
    expect_done();
  };
  tsr_session made = nullptr;
  const auto destroy_made = [&] {
    EXPECT_NE(made, nullptr);
    tsr_session_destroy(std::exchange(made, nullptr));
  };
  at_each([&] { return tsr_session_fork(session.get(), &made); }, destroy_made);
  uint64_t size = 0;
  at_each([&] { return tsr_session_save(session.get(), bytes.data(), bytes.size(), &size); },
          [&] { EXPECT_EQ(bytes, saved); });
  at_each([&] { return tsr_session_restore(context.get(), saved.data(), saved.size(), &made); },
          destroy_made);
  const uint64_t place = tokens.size() - 2 * kNewTokens;  // within a chunk
  at_each([&] { return tsr_session_rewind(session.get(), place); },
          [&] { EXPECT_EQ(session.info().tokens, place); });
  plain.rewind(place);
  for (tsr::Session* s : {&session, &plain}) s->add_text("and?");
  EXPECT_EQ(generate(session, greedy(kNewTokens)), generate(plain, greedy(kNewTokens)));
  session.reset();
  plain.reset();
  expect_only_caches(context);
}

// A fork takes its copies of pages while it answers.
tsr::Session forked(const tsr::Context& context) {
  tsr::Session session = chunks_and_text(context);
  generate(session, greedy(3));
  return session.fork();
}

TEST_P(HostMemory, RunsOutForAFork) {
  run(forked, 1, 1);
}

// A context that is not created leaves nothing on its device, wherever memory ran out.
TEST_P(HostMemory, RunsOutForAContext) {
  EngineTest::release_models();
  {
    const tsr::Model model = load_model("remote");
    const TempFolder temp;
    const std::string folder = temp.file("cache");
    int64_t n = 0;
    for (; !HasFailure(); ++n) {
      SCOPED_TRACE("allocation " + std::to_string(n));
      tsr::ContextOptions options = small(64);
      options.set_cache_folder(folder);
      tsr_context context = nullptr;
      g_failed = 0;
      g_before_here = n;
      const tsr_status status = tsr_context_create(model.get(), &options, &context);
      g_before_here = -1;
      tsr_context_destroy(context);
      EXPECT_EQ(status, g_failed > 0 ? TSR_OUT_OF_HOST_MEMORY : TSR_OK);
      if (g_failed == 0) break;
    }
    EXPECT_GT(n, 30);
  }
  EXPECT_EQ(remote::remote_report().left_behind, remote::RemoteStats{});
}

// What is right in a step is checked without building the messages that it would have been wrong
// with.
TEST(StepCheck, AllocatesForTheStepNotForItsEntries) {
  constexpr uint32_t kEntries = 1000;
  Step step;
  for (uint32_t row = 0; row < 64; ++row) {
    step.tokens.push_back(1);
    step.positions.push_back(0);
    step.key_positions.push_back(0);
    step.sequence_of.push_back(0);
    step.store_entries.push_back(row);
    step.store_slots.push_back(0);
    step.logits.push_back({.row = row, .top_k = 4});
  }
  step.sequences = {{0, 1}};
  step.spans = {{.first_entry = 0, .slots = kEntries * 8}};
  step.masks.assign(kEntries, 0xff);
  step.page_tables.emplace_back();
  for (uint32_t page = 0; page < kEntries; ++page) step.page_tables[0].push_back(page);
  cpu::StepLimits limits;
  limits.max_rows = 64;
  limits.vocabulary = 320;
  limits.page_slots = 8;
  limits.page_counts = {kEntries};
  const int64_t before = g_count;
  cpu::check_step(step, limits);
  EXPECT_LE(g_count - before, 4);
}

}  // namespace
}  // namespace tessera::test
