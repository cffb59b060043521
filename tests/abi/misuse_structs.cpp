// struct_size from the past and the future, values that no field may have.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <vector>

#include "tests/abi/fixture.hpp"
#include "tests/abi/model_file.hpp"

namespace tsr_test {
namespace {

constexpr uint64_t kNul = TSR_NUL_TERMINATED;
constexpr uint32_t kTail = 64;  // bytes that only a later release knows

struct Sizes {
  uint32_t first;  // in the release that brought the struct
  uint32_t now;
};
const std::map<std::string, Sizes>& sizes() {
  static const std::map<std::string, Sizes> all = {
#define SIZE(type, first, now) {#type, {first, now}},
#define FIELD(type, field, offset, bytes)
#define VALUE(constant, value)
#define TYPE(name, type)
#include "tests/abi/layout.inc"
#undef SIZE
#undef FIELD
#undef VALUE
#undef TYPE
  };
  return all;
}

// Bytes of a struct and its tail, aligned as structs are.
class Bytes {
 public:
  Bytes(uint32_t size, unsigned char fill) : words_(size / 8 + 1) {
    std::memset(words_.data(), fill, words_.size() * 8);
  }
  unsigned char* data() { return reinterpret_cast<unsigned char*>(words_.data()); }
  void set_size(uint32_t size) { std::memcpy(data(), &size, sizeof size); }

 private:
  std::vector<uint64_t> words_;
};

struct StructCase {
  std::string name;
  std::function<tsr_status(void*, uint32_t)> init;
  std::function<tsr_status(void*)> use;  // a call that takes it and succeeds with defaults
};

class Structs : public AbiTest {
 protected:
  void SetUp() override {
    AbiTest::SetUp();
    ASSERT_OK(tsr_chunk_create_text(context, "a chunk", kNul, nullptr, chunk.out()));
    ASSERT_OK(tsr_session_add_text(session, "a prompt", kNul, 0));
  }
  void TearDown() override {
    fresh.reset();
    chunk.reset();
    AbiTest::TearDown();
  }

  std::vector<StructCase> inputs();
  std::vector<StructCase> outputs();
  std::vector<StructCase> all() {
    std::vector<StructCase> cases = inputs();
    for (StructCase& c : outputs()) cases.push_back(std::move(c));
    return cases;
  }

  Chunk chunk;
  Session fresh;
};

// A struct, its _init and a call that takes one.
template <typename T, typename Use>
StructCase make_case(const char* name, tsr_status (*init)(T*, uint32_t), Use use) {
  return {name, [=](void* p, uint32_t size) { return init(static_cast<T*>(p), size); },
          [=](void* p) { return use(static_cast<T*>(p)); }};
}
// A short gate.
void complete(tsr_gate_options& options) {
  static const tsr_text texts[] = {{"one text", kNul}, {"another", kNul}};
  options.texts = texts;
  options.text_count = 2;
  options.max_prompts = options.answer_tokens = 1;
}
#define CASE(type) #type, type##_init, [this]([[maybe_unused]] type * x)

std::vector<StructCase> Structs::inputs() {
  return {
      make_case(CASE(tsr_runtime_options) {
        Runtime made;
        return tsr_runtime_create(x, made.out());
      }),
      make_case(CASE(tsr_model_options) {
        Model made;
        return tsr_model_load(runtime, model_path().c_str(), kNul, x, made.out());
      }),
      make_case(CASE(tsr_message) {
        uint64_t length = 0;
        return tsr_chat_format(model, x, 1, TSR_ROLE_USER, nullptr, 0, &length);
      }),
      make_case(CASE(tsr_context_options) {
        Context made;
        return tsr_context_create(model, x, made.out());
      }),
      make_case(CASE(tsr_chunk_options) {
        Chunk made;
        return tsr_chunk_create_text(context, "text", 4, x, made.out());
      }),
      make_case(CASE(tsr_session_options) {
        Session made;
        return tsr_session_create(context, x, made.out());
      }),
      make_case(CASE(tsr_gate_options) {
        tsr_gate_result result = prepared(tsr_gate_result_init);
        return tsr_context_gate(context, x, &result);
      }),
      make_case(CASE(tsr_generate_options) {
        fresh = new_session(context, 1);
        EXPECT_OK(tsr_session_add_text(fresh, "a prompt", kNul, 0));
        return tsr_session_generate(fresh, x);
      }),
  };
}

std::vector<StructCase> Structs::outputs() {
  return {
      make_case(CASE(tsr_device_info) { return tsr_device_get(runtime, 0, x); }),
      make_case(CASE(tsr_model_info) { return tsr_model_get_info(model, x); }),
      make_case(CASE(tsr_metrics) { return tsr_context_get_metrics(context, x); }),
      make_case(CASE(tsr_chunk_info) { return tsr_chunk_get_info(chunk, x); }),
      make_case(CASE(tsr_event) { return tsr_session_next(session, 0, x); }),
      make_case(CASE(tsr_session_info) { return tsr_session_get_info(session, x); }),
      make_case(CASE(tsr_report) { return tsr_session_get_report(session, x); }),
      make_case(CASE(tsr_gate_result) {
        tsr_gate_options options = prepared(tsr_gate_options_init);
        complete(options);
        return tsr_context_gate(context, &options, x);
      }),
  };
}
#undef CASE

// A message counts only with a role, a gate with texts; the other structs are right as _init leaves
// them.
void complete(const std::string& name, unsigned char* bytes) {
  if (name == "tsr_message") reinterpret_cast<tsr_message*>(bytes)->role = TSR_ROLE_USER;
  if (name == "tsr_gate_options") complete(*reinterpret_cast<tsr_gate_options*>(bytes));
}

TEST_F(Structs, EveryStructIsTried) {
  EXPECT_EQ(all().size() + 3, sizes().size());  // elements of arrays have no struct_size
}

TEST_F(Structs, InitZeroes) {
  for (const StructCase& c : all()) {
    const Sizes s = sizes().at(c.name);
    for (uint32_t size : {s.first, s.now, s.now + kTail}) {
      Bytes bytes(s.now + kTail + 8, 0xaa);
      EXPECT_TRUE(returned(c.init(bytes.data(), size), TSR_OK, {})) << c.name << ' ' << size;
      uint32_t written = 0;
      std::memcpy(&written, bytes.data(), sizeof written);
      EXPECT_EQ(written, size) << c.name;
      for (uint32_t i = 4; i < size; ++i) ASSERT_EQ(bytes.data()[i], 0) << c.name << " byte " << i;
      EXPECT_EQ(bytes.data()[size], 0xaa) << c.name << ": written behind its end";
    }
  }
}

TEST_F(Structs, InitRefusesSizesBelowTheFirst) {
  for (const StructCase& c : all()) {
    for (uint32_t size : {0u, 1u, 3u, 4u, sizes().at(c.name).first - 1}) {
      Bytes bytes(sizes().at(c.name).now, 0xaa);
      EXPECT_TRUE(returned(c.init(bytes.data(), size), TSR_INVALID_ARGUMENT, {"struct_size"}))
          << c.name << ' ' << size;
      EXPECT_EQ(bytes.data()[0], 0xaa) << c.name << " was changed";
    }
  }
}

TEST_F(Structs, SizesFromThePastAndTheFuture) {
  for (const StructCase& c : all()) {
    const Sizes s = sizes().at(c.name);
    auto use = [&](uint32_t size) {
      Bytes bytes(s.now + kTail, 0);
      complete(c.name, bytes.data());
      bytes.set_size(size);
      return c.use(bytes.data());
    };
    for (uint32_t size : {0u, 1u, 4u, s.first - 4, s.first - 1}) {
      EXPECT_TRUE(returned(use(size), TSR_INVALID_ARGUMENT, {"struct_size"}))
          << c.name << ' ' << size;
    }
    for (uint32_t size = s.first; size <= s.now; size += 8) {
      EXPECT_TRUE(returned(use(size), TSR_OK, {})) << c.name << " of an earlier release, " << size;
    }
    for (uint32_t size : {s.now + 1, s.now + 8, s.now + kTail}) {
      EXPECT_TRUE(returned(use(size), TSR_OK, {})) << c.name << " of a later release, " << size;
    }
  }
}

TEST_F(Structs, UnknownTailThatIsSet) {
  for (const StructCase& c : inputs()) {
    const Sizes s = sizes().at(c.name);
    for (uint32_t at : {s.now, s.now + 1, s.now + kTail - 1}) {
      Bytes bytes(s.now + kTail, 0);
      complete(c.name, bytes.data());
      bytes.set_size(s.now + kTail);
      bytes.data()[at] = 1;
      EXPECT_TRUE(returned(c.use(bytes.data()), TSR_UNSUPPORTED, {"byte " + std::to_string(at)}))
          << c.name << " byte " << at;
    }
  }
}

// Output structs keep the caller's struct_size, and bytes that the library does not know.
TEST_F(Structs, OutputsKeepTheirEnds) {
  for (const StructCase& c : outputs()) {
    const Sizes s = sizes().at(c.name);
    for (uint32_t size : {s.first, s.now, s.now + kTail}) {
      Bytes bytes(s.now + kTail + 8, 0);
      bytes.set_size(size);
      bytes.data()[size] = 0x55;
      EXPECT_TRUE(returned(c.use(bytes.data()), TSR_OK, {})) << c.name << ' ' << size;
      uint32_t written = 0;
      std::memcpy(&written, bytes.data(), sizeof written);
      EXPECT_EQ(written, size) << c.name;
      EXPECT_EQ(bytes.data()[size], 0x55) << c.name << ": written behind its end";
    }
  }
}

// A struct at the end of mapped memory that claims 4 GiB: nobody may go and look.
TEST_F(Structs, AbsurdSizes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  auto* map = static_cast<unsigned char*>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(map, MAP_FAILED);
  ASSERT_EQ(mprotect(map + page, page, PROT_NONE), 0);
  for (const StructCase& c : all()) {
    const uint32_t huge = UINT32_MAX;
    unsigned char* bytes = map + page - (sizes().at(c.name).now + 7) / 8 * 8;
    for (bool init : {false, true}) {
      std::memset(map, 0, page);
      complete(c.name, bytes);
      std::memcpy(bytes, &huge, sizeof huge);
      EXPECT_TRUE(returned(init ? c.init(bytes, huge) : c.use(bytes), TSR_INVALID_ARGUMENT,
                           {"struct_size"}))
          << c.name << (init ? " at init" : "");
    }
  }
  munmap(map, 2 * page);
}

TEST_F(Structs, MessagesOfALaterRelease) {
  struct Later {
    tsr_message known;
    uint64_t unknown[2];
  };
  Later messages[2] = {};
  for (Later& m : messages) {
    ASSERT_OK(tsr_message_init(&m.known, sizeof m));
    m.known.role = TSR_ROLE_USER;
    m.known.text = "hello";
    m.known.length = 5;
  }
  messages[1].known.text = "world";
  char text[256] = {};
  uint64_t length = 0;
  auto format = [&] {
    return tsr_chat_format(model, &messages[0].known, 2, TSR_ROLE_NONE, text, sizeof text, &length);
  };
  ASSERT_OK(format());
  const std::string whole(text, length);
  EXPECT_NE(whole.find("hello"), std::string::npos) << whole;
  EXPECT_NE(whole.find("world"), std::string::npos) << whole;
  messages[1].unknown[1] = 1;
  EXPECT_FAILS(format(), TSR_UNSUPPORTED, "messages[1]");
  messages[1].unknown[1] = 0;
  messages[1].known.struct_size = sizeof(tsr_message);
  EXPECT_FAILS(format(), TSR_INVALID_ARGUMENT, "messages[1]", "struct_size");
}

// The tiny model's heads have 16 values.
TEST_F(Structs, AKvTypeThatDoesNotFitTheModel) {
  tsr_context_options options = small_context();
  options.kv_type = TSR_KV_Q8_0;
  Context made;
  EXPECT_FAILS(tsr_context_create(model, &options, made.out()), TSR_UNSUPPORTED, "options->kv_type",
               "32", "16");
}

TEST_F(Structs, NumbersThatAreNone) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  struct Field {
    const char* name;
    float tsr_generate_options::*field;
    std::vector<float> bad;
  };
  for (const Field& f :
       {Field{"temperature", &tsr_generate_options::temperature, {-1, -1e-20f, 1001, 3e38f}},
        Field{"top_p", &tsr_generate_options::top_p, {-0.5f, 1.5f}},
        Field{"min_p", &tsr_generate_options::min_p, {-0.5f, 1.5f}},
        Field{"repetition_penalty",
              &tsr_generate_options::repetition_penalty,
              {-1, 1e-40f, 0.009f, 101, 3e38f}},
        Field{"frequency_penalty", &tsr_generate_options::frequency_penalty, {-101, 101}},
        Field{"presence_penalty", &tsr_generate_options::presence_penalty, {-101, 101, 3e38f}}}) {
    std::vector<float> bad = f.bad;
    bad.insert(bad.end(), {nan, -nan, inf, -inf});
    for (float value : bad) {
      tsr_generate_options options = exactly(4);
      options.temperature = 1;
      options.*f.field = value;
      EXPECT_FAILS(tsr_session_generate(session, &options), TSR_INVALID_ARGUMENT, f.name);
    }
  }
  for (float value : {nan, inf, -inf, -0.1f, 1.1f}) {
    Session made;
    tsr_session_options options = prepared(tsr_session_options_init);
    options.select_share = value;
    EXPECT_FAILS(tsr_session_create(context, &options, made.out()), TSR_INVALID_ARGUMENT,
                 "select_share");
    options.select_share = 0;
    options.select_layers = value;
    EXPECT_FAILS(tsr_session_create(context, &options, made.out()), TSR_INVALID_ARGUMENT,
                 "select_layers");
    options.select_layers = 0;
    options.max_kl = value > 1 && value < inf ? 1001 : value;
    EXPECT_FAILS(tsr_session_create(context, &options, made.out()), TSR_INVALID_ARGUMENT, "max_kl");
  }
  // Odd, but numbers: the smallest, the largest, a negative zero.
  for (float value : {1e-45f, 1000.0f, -0.0f}) {
    tsr_generate_options options = exactly(2);
    options.temperature = value;
    ASSERT_OK(tsr_session_generate(session, &options));
    EXPECT_EQ(read_answer(session).tokens, 2u);
  }
}

TEST_F(Structs, BiasesThatCannotBe) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const auto generate = [&](const std::vector<tsr_logit_bias>& biases) {
    tsr_generate_options options = exactly(2);
    options.biases = biases.data();
    options.bias_count = biases.size();
    return tsr_session_generate(session, &options);
  };
  for (int32_t token : {-1, 320, INT32_MAX, INT32_MIN}) {
    EXPECT_FAILS(generate({{5, 1}, {token, 1}}), TSR_INVALID_ARGUMENT, "options->biases[1].token",
                 std::to_string(token), "0 to 319");
  }
  for (float bias : {nan, -nan, inf, 1001.0f, -1001.0f, 3e38f}) {
    EXPECT_FAILS(generate({{5, 1}, {6, 1}, {7, bias}}), TSR_INVALID_ARGUMENT,
                 "options->biases[2].bias", "token 7", "-1000 to 1000");
  }
  EXPECT_FAILS(generate({{5, 1}, {6, 1}, {5, 1}}), TSR_INVALID_ARGUMENT, "options->biases[2].token",
               "is 5", "options->biases[0]");
  std::vector<tsr_logit_bias> all;
  for (int32_t t = 0; t < 320; ++t) all.push_back({t, -inf});
  EXPECT_FAILS(generate(all), TSR_INVALID_ARGUMENT, "options->biases", "320", "at least one");

  tsr_generate_options options = exactly(2);
  options.bias_count = 1;
  EXPECT_FAILS(tsr_session_generate(session, &options), TSR_INVALID_ARGUMENT, "options->biases",
               "NULL");
  options.biases = all.data();
  for (uint64_t count : {UINT64_C(1025), UINT64_MAX}) {
    options.bias_count = count;
    EXPECT_FAILS(tsr_session_generate(session, &options), TSR_INVALID_ARGUMENT, "bias_count",
                 std::to_string(count), "1024");
  }
  options.bias_count = 0;  // a list of none, wherever it is
  ASSERT_OK(tsr_session_generate(session, &options));
  EXPECT_EQ(read_answer(session).tokens, 2u);
  all.resize(319);  // the extremes that may be
  all[0].bias = 1000;
  all[1].bias = -1000;
  ASSERT_OK(generate(all));
  EXPECT_EQ(read_answer(session).tokens, 2u);
}

TEST_F(Structs, LogProbabilitiesBeyondTheirNumber) {
  tsr_generate_options options = exactly(3);
  for (uint32_t count : {21u, 320u, UINT32_MAX}) {
    options.logprobs = count;
    EXPECT_FAILS(tsr_session_generate(session, &options), TSR_INVALID_ARGUMENT, "logprobs",
                 std::to_string(count), "20");
  }
  options.logprobs = 20;
  ASSERT_OK(tsr_session_generate(session, &options));
  uint64_t told = 0;
  tsr_event event = prepared(tsr_event_init);
  do {
    // A reader of the first release: the fields behind its struct are not touched.
    const bool old = told == 1;
    event.struct_size = old ? sizes().at("tsr_event").first : sizeof event;
    if (old) event.top_count = 99;
    ASSERT_OK(tsr_session_next(session, 10'000, &event));
    if (event.kind == TSR_EVENT_TOKEN) {
      EXPECT_EQ(event.tokens, ++told);
      EXPECT_EQ(event.top_count, old ? 99 : 20);
    }
  } while (event.kind != TSR_EVENT_DONE);
  EXPECT_EQ(told, 3u);
}

TEST_F(Structs, DraftsBeyondTheirLength) {
  tsr_generate_options options = exactly(3);
  for (uint32_t count : {65u, 320u, UINT32_MAX}) {
    options.lookup_tokens = count;
    EXPECT_FAILS(tsr_session_generate(session, &options), TSR_INVALID_ARGUMENT, "lookup_tokens",
                 std::to_string(count), "64");
  }
  // Longer than a step, the answer, the session's text: all cut it.
  options.lookup_tokens = 64;
  ASSERT_OK(tsr_session_generate(session, &options));
  EXPECT_EQ(read_answer(session).tokens, 3u);
  // Numbers of tokens that no session holds are refused as without drafts.
  options.max_tokens = UINT32_MAX;
  options.penalty_window = UINT32_MAX;
  EXPECT_FAILS(tsr_session_generate(session, &options), TSR_CAPACITY, "max_tokens");
  const Session empty = new_session(context);
  EXPECT_FAILS(tsr_session_generate(empty, &options), TSR_INVALID_ARGUMENT, "empty");
}

TEST_F(Structs, UnknownEnumerationsAndFlags) {
  uint64_t count = 0;
  int32_t tokens[8] = {5};
  char text[64];
  float logits[512];
  for (int32_t bad : {-1, 4, 99, INT32_MAX, INT32_MIN}) {
    tsr_runtime_options ro = prepared(tsr_runtime_options_init);
    ro.log_level = bad;
    Runtime r;
    EXPECT_FAILS(tsr_runtime_create(&ro, r.out()), TSR_INVALID_ARGUMENT, "log_level");
    tsr_model_options mo = prepared(tsr_model_options_init);
    mo.math = bad;
    Model m;
    EXPECT_FAILS(tsr_model_load(runtime, model_path().c_str(), kNul, &mo, m.out()),
                 TSR_INVALID_ARGUMENT, "math");
    tsr_context_options co = small_context();
    co.kv_type = bad;
    Context c;
    EXPECT_FAILS(tsr_context_create(model, &co, c.out()), TSR_INVALID_ARGUMENT, "kv_type");
    tsr_message message = prepared(tsr_message_init);
    message.role = bad;
    EXPECT_FAILS(tsr_chat_format(model, &message, 1, TSR_ROLE_NONE, text, 64, &count),
                 TSR_INVALID_ARGUMENT, "messages[0]", "role");
    EXPECT_FAILS(tsr_chat_format(model, nullptr, 0, bad, text, 64, &count), TSR_INVALID_ARGUMENT,
                 "role");
    EXPECT_FAILS(tsr_session_open_role(session, bad), TSR_INVALID_ARGUMENT, "role");
    EXPECT_FAILS(tsr_session_close_role(session, bad), TSR_INVALID_ARGUMENT, "role");
  }
  for (int32_t bad : {-1, 6, 99, INT32_MAX, INT32_MIN}) {
    tsr_session_options so = prepared(tsr_session_options_init);
    so.repair = bad;
    Session s;
    EXPECT_FAILS(tsr_session_create(context, &so, s.out()), TSR_INVALID_ARGUMENT, "repair");
  }
  EXPECT_FAILS(tsr_session_open_role(session, TSR_ROLE_NONE), TSR_INVALID_ARGUMENT, "role");
  EXPECT_FAILS(tsr_session_close_role(session, TSR_ROLE_NONE), TSR_INVALID_ARGUMENT, "role");

  for (uint64_t bad : {UINT64_C(1) << 63, UINT64_C(1) << 32, UINT64_C(4), UINT64_MAX}) {
    EXPECT_FAILS(tsr_tokenize(model, "a", 1, bad, tokens, 8, &count), TSR_INVALID_ARGUMENT,
                 "flags");
    EXPECT_FAILS(tsr_detokenize(model, tokens, 1, bad, text, 64, &count), TSR_INVALID_ARGUMENT,
                 "flags");
    EXPECT_FAILS(tsr_session_add_text(session, "a", 1, bad), TSR_INVALID_ARGUMENT, "flags");
    EXPECT_FAILS(tsr_session_evaluate(session, bad, logits, 512, &count), TSR_INVALID_ARGUMENT,
                 "flags");
    tsr_chunk_options ko = prepared(tsr_chunk_options_init);
    ko.flags = bad;
    Chunk k;
    EXPECT_FAILS(tsr_chunk_create_text(context, "a", 1, &ko, k.out()), TSR_INVALID_ARGUMENT,
                 "flags");
    tsr_generate_options go = exactly(1);
    go.flags = bad;
    EXPECT_FAILS(tsr_session_generate(session, &go), TSR_INVALID_ARGUMENT, "flags");
  }
  // TSR_CHUNK_LAZY is a flag of chunks only.
  EXPECT_FAILS(tsr_tokenize(model, "a", 1, TSR_CHUNK_LAZY, tokens, 8, &count), TSR_INVALID_ARGUMENT,
               "flags");
  // A reserved field that someone sets would otherwise get a meaning later.
  tsr_chunk_options reserved = prepared(tsr_chunk_options_init);
  reserved.reserved = 1;
  Chunk k;
  EXPECT_FAILS(tsr_chunk_create_text(context, "a", 1, &reserved, k.out()), TSR_INVALID_ARGUMENT,
               "reserved");
}

// Modes that are known but not possible say so, and tsr_model_info.repair_modes told before.
TEST_F(Structs, RepairModesAreAsListed) {
  tsr_model_info info = prepared(tsr_model_info_init);
  ASSERT_OK(tsr_model_get_info(model, &info));
  for (tsr_repair repair = TSR_REPAIR_DEFAULT; repair <= TSR_REPAIR_FULL; ++repair) {
    tsr_session_options options = prepared(tsr_session_options_init);
    options.repair = repair;
    Session made;
    const bool listed = repair == TSR_REPAIR_DEFAULT || (info.repair_modes >> repair & 1) != 0;
    if (listed) {
      EXPECT_OK(tsr_session_create(context, &options, made.out()));
    } else {
      EXPECT_FAILS(tsr_session_create(context, &options, made.out()), TSR_UNSUPPORTED, "repair");
    }
  }
}

}  // namespace
}  // namespace tsr_test
