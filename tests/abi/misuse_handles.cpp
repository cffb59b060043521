// Every call with NULL for each of its pointers and with handles that are none: freed, of another
// kind, random.
#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <random>
#include <vector>

#include "tests/abi/fixture.hpp"
#include "tests/abi/model_file.hpp"

namespace tsr_test {
namespace {

constexpr uint64_t kNul = TSR_NUL_TERMINATED;

// Room for whatever a call writes.
struct Outputs {
  tsr_device_info device = prepared(tsr_device_info_init);
  tsr_model_info model = prepared(tsr_model_info_init);
  tsr_metrics metrics = prepared(tsr_metrics_init);
  tsr_chunk_info chunk = prepared(tsr_chunk_info_init);
  tsr_event event = prepared(tsr_event_init);
  tsr_session_info session = prepared(tsr_session_info_init);
  tsr_report report = prepared(tsr_report_init);
  tsr_gate_options gate = prepared(tsr_gate_options_init);
  tsr_gate_result gated = prepared(tsr_gate_result_init);
  tsr_text texts[2] = {{"one text", kNul}, {"another", kNul}};
  tsr_message message = prepared(tsr_message_init);
  int32_t tokens[8] = {5, 6, 7};
  char text[256] = {};
  float logits[512] = {};
  uint64_t count = 0;
  uint32_t count32 = 0;
  std::vector<uint8_t> saved = std::vector<uint8_t>(1 << 20);
  uint64_t saved_size = 0;
};

// One handle argument of one call; everything else about the call is right.
struct HandleCase {
  const char* call;
  const char* kind;
  std::function<tsr_status(void*)> run;
};

class Handles : public AbiTest {
 protected:
  void SetUp() override {
    AbiTest::SetUp();
    ASSERT_OK(tsr_chunk_create_text(context, "a chunk", kNul, nullptr, chunk.out()));
    ASSERT_OK(tsr_chunk_wait(chunk, 10'000));
  }

  void TearDown() override {
    chunk.reset();
    AbiTest::TearDown();
  }

  std::vector<void*> live() {
    return {static_cast<tsr_runtime>(runtime), static_cast<tsr_model>(model),
            static_cast<tsr_context>(context), static_cast<tsr_session>(session),
            static_cast<tsr_chunk>(chunk)};
  }

  std::vector<HandleCase> handle_cases() {
    Outputs& o = outputs;
    tsr_message_init(&o.message, sizeof o.message);
    o.message.role = TSR_ROLE_USER;
    o.gate.texts = o.texts;
    o.gate.text_count = 2;
    o.gate.max_prompts = o.gate.answer_tokens = 1;
    auto R = [](void* h) { return static_cast<tsr_runtime>(h); };
    auto M = [](void* h) { return static_cast<tsr_model>(h); };
    auto C = [](void* h) { return static_cast<tsr_context>(h); };
    auto K = [](void* h) { return static_cast<tsr_chunk>(h); };
    auto S = [](void* h) { return static_cast<tsr_session>(h); };
    return {
        {"tsr_device_count", "runtime",
         [=, &o](void* h) { return tsr_device_count(R(h), &o.count32); }},
        {"tsr_device_get", "runtime",
         [=, &o](void* h) { return tsr_device_get(R(h), 0, &o.device); }},
        {"tsr_model_load", "runtime",
         [=, this](void* h) {
           return tsr_model_load(R(h), model_path().c_str(), kNul, nullptr, other_model.out());
         }},
        {"tsr_model_get_info", "model",
         [=, &o](void* h) { return tsr_model_get_info(M(h), &o.model); }},
        {"tsr_tokenize", "model",
         [=, &o](void* h) { return tsr_tokenize(M(h), "ab", 2, 0, o.tokens, 8, &o.count); }},
        {"tsr_detokenize", "model",
         [=, &o](void* h) { return tsr_detokenize(M(h), o.tokens, 1, 0, o.text, 256, &o.count); }},
        {"tsr_chat_format", "model",
         [=, &o](void* h) {
           return tsr_chat_format(M(h), &o.message, 1, TSR_ROLE_NONE, o.text, 256, &o.count);
         }},
        {"tsr_chat_default_system", "model",
         [=, &o](void* h) { return tsr_chat_default_system(M(h), o.text, 256, &o.count); }},
        {"tsr_context_create", "model",
         [=, this](void* h) { return tsr_context_create(M(h), nullptr, other_context.out()); }},
        {"tsr_context_wait", "context",
         [=, this](void* h) {
           tsr_session ready = nullptr;
           const tsr_status status = tsr_context_wait(C(h), 0, &ready);
           if (status != TSR_TIMEOUT) return status;
           return tsr_session_cancel(session);  // nothing is under way: fine
         }},
        {"tsr_context_flush", "context", [=](void* h) { return tsr_context_flush(C(h), 0); }},
        {"tsr_context_get_metrics", "context",
         [=, &o](void* h) { return tsr_context_get_metrics(C(h), &o.metrics); }},
        {"tsr_context_gate", "context",
         [=, &o](void* h) { return tsr_context_gate(C(h), &o.gate, &o.gated); }},
        {"tsr_context_get_gate", "context",
         [=, &o](void* h) { return tsr_context_get_gate(C(h), nullptr, &o.gated); }},
        {"tsr_chunk_create_text", "context",
         [=, this](void* h) {
           return tsr_chunk_create_text(C(h), "b", 1, nullptr, other_chunk.out());
         }},
        {"tsr_chunk_wait", "chunk", [=](void* h) { return tsr_chunk_wait(K(h), 10'000); }},
        {"tsr_chunk_get_info", "chunk",
         [=, &o](void* h) { return tsr_chunk_get_info(K(h), &o.chunk); }},
        {"tsr_context_list_chunks", "context",
         [=, &o](void* h) { return tsr_context_list_chunks(C(h), nullptr, 0, &o.count); }},
        {"tsr_chunk_open", "context",
         [=, this, &o](void* h) {
           const tsr_chunk_id id = {o.chunk.identity[0], o.chunk.identity[1]};
           return tsr_chunk_open(C(h), &id, other_chunk.out());
         }},
        {"tsr_chunk_pin", "chunk", [=](void* h) { return tsr_chunk_pin(K(h), 1); }},
        {"tsr_chunk_drop", "chunk", [=](void* h) { return tsr_chunk_drop(K(h), 0); }},
        {"tsr_session_create", "context",
         [=, this](void* h) { return tsr_session_create(C(h), nullptr, other_session.out()); }},
        {"tsr_session_add_text", "session",
         [=](void* h) { return tsr_session_add_text(S(h), "ab", 2, 0); }},
        {"tsr_session_add_tokens", "session",
         [=, &o](void* h) { return tsr_session_add_tokens(S(h), o.tokens, 1); }},
        {"tsr_session_add_chunk", "chunk",
         [=, this](void* h) { return tsr_session_add_chunk(session, K(h)); }},
        {"tsr_session_add_chunk", "session",
         [=, this](void* h) { return tsr_session_add_chunk(S(h), chunk); }},
        {"tsr_session_open_role", "session",
         [=](void* h) { return tsr_session_open_role(S(h), TSR_ROLE_USER); }},
        {"tsr_session_close_role", "session",
         [=](void* h) { return tsr_session_close_role(S(h), TSR_ROLE_USER); }},
        {"tsr_session_fork", "session",
         [=, this](void* h) { return tsr_session_fork(S(h), other_session.out()); }},
        {"tsr_session_save", "session",
         [=, &o](void* h) {
           return tsr_session_save(S(h), o.saved.data(), o.saved.size(), &o.saved_size);
         }},
        {"tsr_session_restore", "context",
         [=, &o, this](void* h) {
           return tsr_session_restore(C(h), o.saved.data(), o.saved_size, other_session.out());
         }},
        {"tsr_session_rewind", "session", [=](void* h) { return tsr_session_rewind(S(h), 1); }},
        {"tsr_session_generate", "session",
         [=](void* h) { return tsr_session_generate(S(h), nullptr); }},
        {"tsr_session_next", "session",
         [=, &o](void* h) { return tsr_session_next(S(h), 10'000, &o.event); }},
        {"tsr_session_cancel", "session", [=](void* h) { return tsr_session_cancel(S(h)); }},
        {"tsr_session_get_info", "session",
         [=, &o](void* h) { return tsr_session_get_info(S(h), &o.session); }},
        {"tsr_session_get_tokens", "session",
         [=, &o](void* h) { return tsr_session_get_tokens(S(h), nullptr, 0, &o.count); }},
        {"tsr_session_get_report", "session",
         [=, &o](void* h) { return tsr_session_get_report(S(h), &o.report); }},
        {"tsr_session_evaluate", "session",
         [=, &o](void* h) { return tsr_session_evaluate(S(h), 0, o.logits, 512, &o.count); }},
        {"tsr_session_add_anchor", "session",
         [=](void* h) { return tsr_session_add_anchor(S(h)); }},
    };
  }

  // Every call refuses `handle` and names the argument; every _destroy leaves it alone.
  void refuse_everywhere(void* handle, const char* why, const char* except_kind = "") {
    for (const HandleCase& c : handle_cases()) {
      if (std::string(c.kind) == except_kind) continue;
      EXPECT_TRUE(returned(c.run(handle), TSR_INVALID_ARGUMENT, {c.kind}))
          << c.call << " with " << why << " as " << c.kind;
    }
    auto destroys = [&](const char* kind) { return std::string(kind) != except_kind; };
    if (destroys("runtime")) tsr_runtime_destroy(static_cast<tsr_runtime>(handle));
    if (destroys("model")) tsr_model_destroy(static_cast<tsr_model>(handle));
    if (destroys("context")) tsr_context_destroy(static_cast<tsr_context>(handle));
    if (destroys("chunk")) tsr_chunk_destroy(static_cast<tsr_chunk>(handle));
    if (destroys("session")) tsr_session_destroy(static_cast<tsr_session>(handle));
  }

  Chunk chunk;
  Outputs outputs;
  Model other_model;
  Context other_context;
  Chunk other_chunk;
  Session other_session;
};

// The table itself: with the right handle each call succeeds (the anchor, of which this context has
// none, and the calls that need the answer before them to be read excepted).
TEST_F(Handles, RightOnesAreAccepted) {
  for (const HandleCase& c : handle_cases()) {
    const std::string kind = c.kind;
    void* handle = kind == "runtime"   ? live()[0]
                   : kind == "model"   ? live()[1]
                   : kind == "context" ? live()[2]
                   : kind == "session" ? live()[3]
                                       : live()[4];
    if (std::string(c.call) == "tsr_session_add_anchor") {
      EXPECT_FAILS(c.run(handle), TSR_INVALID_ARGUMENT, "anchor");
    } else if (std::string(c.call) == "tsr_session_evaluate") {
      ASSERT_OK(tsr_session_cancel(session));
      read_answer(session);
      ASSERT_OK(tsr_session_add_text(session, "more", 4, 0));
      EXPECT_TRUE(returned(c.run(handle), TSR_OK, {})) << c.call;
    } else {
      EXPECT_TRUE(returned(c.run(handle), TSR_OK, {})) << c.call;
    }
  }
}

TEST_F(Handles, Null) {
  refuse_everywhere(nullptr, "NULL");
}

TEST_F(Handles, Freed) {
  const std::vector<void*> kept = live();
  Session s = new_session(context);
  Chunk k;
  ASSERT_OK(tsr_chunk_create_text(context, "another", kNul, nullptr, k.out()));
  Context c = new_context(model, small_context());
  Model m;
  ASSERT_OK(tsr_model_load(runtime, model_path().c_str(), kNul, nullptr, m.out()));
  Runtime r;
  ASSERT_OK(tsr_runtime_create(nullptr, r.out()));
  const std::vector<void*> freed = {static_cast<tsr_session>(s), static_cast<tsr_chunk>(k),
                                    static_cast<tsr_context>(c), static_cast<tsr_model>(m),
                                    static_cast<tsr_runtime>(r)};
  s.reset(), k.reset(), c.reset(), m.reset(), r.reset();
  for (void* handle : freed) refuse_everywhere(handle, "a freed handle");
  // Their places are taken again; the old handles must not become the new objects.
  Session s2 = new_session(context);
  Context c2 = new_context(model, small_context());
  for (void* handle : freed) refuse_everywhere(handle, "a freed handle whose place is used");
  EXPECT_EQ(token_count(s2), 0u);
}

// A second copy of the library in the process, as a plug-in may bring one.
TEST_F(Handles, OfAnotherCopyOfTheLibrary) {
  Dl_info here;
  ASSERT_NE(dladdr(reinterpret_cast<void*>(&tsr_version), &here), 0);
  const std::string path = scratch("another-tessera.so");
  std::filesystem::copy_file(here.dli_fname, path);
  void* copy = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(copy, nullptr) << dlerror();
  const auto create =
      reinterpret_cast<decltype(&tsr_runtime_create)>(dlsym(copy, "tsr_runtime_create"));
  const auto destroy =
      reinterpret_cast<decltype(&tsr_runtime_destroy)>(dlsym(copy, "tsr_runtime_destroy"));
  const auto device_count =
      reinterpret_cast<decltype(&tsr_device_count)>(dlsym(copy, "tsr_device_count"));
  ASSERT_TRUE(create && destroy && device_count);
  ASSERT_NE(create, &tsr_runtime_create);
  uint32_t devices = 0;
  std::vector<tsr_runtime> foreign(20);  // as many as this copy may have handles
  for (tsr_runtime& each : foreign) {
    ASSERT_EQ(create(nullptr, &each), TSR_OK);
    EXPECT_NE(each, nullptr);
    EXPECT_FAILS(tsr_device_count(each, &devices), TSR_INVALID_ARGUMENT, "runtime");
    EXPECT_EQ(device_count(runtime, &devices), TSR_INVALID_ARGUMENT);
    tsr_runtime_destroy(each);
    destroy(runtime);
  }
  for (tsr_runtime each : foreign) {
    EXPECT_EQ(device_count(each, &devices), TSR_OK);
    destroy(each);
  }
  EXPECT_OK(tsr_device_count(runtime, &devices));
}

TEST_F(Handles, OfAnotherKind) {
  const char* kinds[] = {"runtime", "model", "context", "session", "chunk"};
  for (size_t i = 0; i < 5; ++i) refuse_everywhere(live()[i], "another kind of handle", kinds[i]);
}

TEST_F(Handles, RandomNumbers) {
  std::vector<uint64_t> numbers;
  for (uint64_t i = 1; i < 64; ++i) numbers.push_back(i);
  for (int bit = 0; bit < 64; ++bit) {
    numbers.push_back(uint64_t{1} << bit);
    for (void* handle : live()) {
      numbers.push_back(reinterpret_cast<uint64_t>(handle) ^ uint64_t{1} << bit);
    }
  }
  numbers.push_back(UINT64_MAX);
  numbers.push_back(reinterpret_cast<uint64_t>(&outputs));  // an address, which a handle is not
  std::mt19937_64 random(7);
  for (int i = 0; i < 200; ++i) numbers.push_back(random());
  const std::vector<void*> used = live();
  // The program's other live handles belong to the fixture; none but these five exist here.
  for (uint64_t number : numbers) {
    void* handle = reinterpret_cast<void*>(number);
    if (std::find(used.begin(), used.end(), handle) != used.end()) continue;
    refuse_everywhere(handle, "a random number");
    if (HasFailure()) FAIL() << "number " << number;
  }
}

TEST_F(Handles, DestroyedTwice) {
  tsr_session twice = nullptr;
  ASSERT_OK(tsr_session_create(context, nullptr, &twice));
  tsr_session_destroy(twice);
  Session next = new_session(context);  // takes the place
  tsr_session_destroy(twice);
  EXPECT_EQ(token_count(next), 0u);
  tsr_runtime_destroy(nullptr), tsr_model_destroy(nullptr), tsr_context_destroy(nullptr);
  tsr_chunk_destroy(nullptr), tsr_session_destroy(nullptr);
}

// A handle ends at once for its owner although the object lives on in its users.
TEST_F(Handles, EndAtOnceWhileTheObjectLives) {
  Context c = new_context(model, small_context());
  const tsr_context freed = c;
  Session user = new_session(c);
  c.reset();
  Outputs o;
  EXPECT_FAILS(tsr_context_get_metrics(freed, &o.metrics), TSR_INVALID_ARGUMENT, "context");
  EXPECT_FAILS(tsr_session_create(freed, nullptr, other_session.out()), TSR_INVALID_ARGUMENT,
               "context");
  ASSERT_OK(tsr_session_add_text(user, "still here", kNul, 0));
  const tsr_generate_options four = exactly(4);
  ASSERT_OK(tsr_session_generate(user, &four));
  EXPECT_EQ(read_answer(user).tokens, 4u);
}

TEST_F(Handles, NullForEveryPointer) {
  Outputs o;
  tsr_generate_options no_stops = exactly(1);
  no_stops.stop_count = 1;
  tsr_text null_stop = {nullptr, 3};
  const tsr_text no_text[2] = {{"a", 1}, {nullptr, 1}};
  tsr_generate_options bad_stop = no_stops;
  bad_stop.stops = &null_stop;
  tsr_context_options bad_anchor = small_context();
  bad_anchor.anchor_length = 4;
  tsr_context_options bad_primer = small_context();
  bad_primer.primer_length = 4;
  tsr_chunk_id id = {};
  tsr_message bad_message = o.message;
  bad_message.role = TSR_ROLE_USER;
  bad_message.length = 4;
  tsr_model_options bad_device = prepared(tsr_model_options_init);
  bad_device.device_length = 3;
  const char* path = model_path().c_str();
  tsr_context made = nullptr;

#define NULL_CASE(argument, call) EXPECT_FAILS(call, TSR_INVALID_ARGUMENT, argument)
  NULL_CASE("options", tsr_runtime_options_init(nullptr, sizeof(tsr_runtime_options)));
  NULL_CASE("info", tsr_device_info_init(nullptr, sizeof(tsr_device_info)));
  NULL_CASE("options", tsr_model_options_init(nullptr, sizeof(tsr_model_options)));
  NULL_CASE("info", tsr_model_info_init(nullptr, sizeof(tsr_model_info)));
  NULL_CASE("message", tsr_message_init(nullptr, sizeof(tsr_message)));
  NULL_CASE("options", tsr_context_options_init(nullptr, sizeof(tsr_context_options)));
  NULL_CASE("metrics", tsr_metrics_init(nullptr, sizeof(tsr_metrics)));
  NULL_CASE("options", tsr_chunk_options_init(nullptr, sizeof(tsr_chunk_options)));
  NULL_CASE("info", tsr_chunk_info_init(nullptr, sizeof(tsr_chunk_info)));
  NULL_CASE("options", tsr_session_options_init(nullptr, sizeof(tsr_session_options)));
  NULL_CASE("options", tsr_generate_options_init(nullptr, sizeof(tsr_generate_options)));
  NULL_CASE("event", tsr_event_init(nullptr, sizeof(tsr_event)));
  NULL_CASE("info", tsr_session_info_init(nullptr, sizeof(tsr_session_info)));
  NULL_CASE("report", tsr_report_init(nullptr, sizeof(tsr_report)));
  NULL_CASE("options", tsr_gate_options_init(nullptr, sizeof(tsr_gate_options)));
  NULL_CASE("result", tsr_gate_result_init(nullptr, sizeof(tsr_gate_result)));

  NULL_CASE("out", tsr_runtime_create(nullptr, nullptr));
  NULL_CASE("count", tsr_device_count(runtime, nullptr));
  NULL_CASE("info", tsr_device_get(runtime, 0, nullptr));
  NULL_CASE("path", tsr_model_load(runtime, nullptr, 4, nullptr, other_model.out()));
  NULL_CASE("path", tsr_model_load(runtime, nullptr, kNul, nullptr, other_model.out()));
  NULL_CASE("device", tsr_model_load(runtime, path, kNul, &bad_device, other_model.out()));
  NULL_CASE("out", tsr_model_load(runtime, path, kNul, nullptr, nullptr));
  NULL_CASE("info", tsr_model_get_info(model, nullptr));
  NULL_CASE("text", tsr_tokenize(model, nullptr, 4, 0, o.tokens, 8, &o.count));
  NULL_CASE("text", tsr_tokenize(model, nullptr, kNul, 0, o.tokens, 8, &o.count));
  NULL_CASE("tokens", tsr_tokenize(model, "a", 1, 0, nullptr, 8, &o.count));
  NULL_CASE("count", tsr_tokenize(model, "a", 1, 0, o.tokens, 8, nullptr));
  NULL_CASE("tokens", tsr_detokenize(model, nullptr, 2, 0, o.text, 256, &o.count));
  NULL_CASE("text", tsr_detokenize(model, o.tokens, 2, 0, nullptr, 256, &o.count));
  NULL_CASE("length", tsr_detokenize(model, o.tokens, 2, 0, o.text, 256, nullptr));
  NULL_CASE("messages", tsr_chat_format(model, nullptr, 1, 0, o.text, 256, &o.count));
  NULL_CASE("text", tsr_chat_format(model, &bad_message, 1, 0, o.text, 256, &o.count));
  NULL_CASE("text", tsr_chat_format(model, &o.message, 0, TSR_ROLE_USER, nullptr, 9, &o.count));
  NULL_CASE("length", tsr_chat_format(model, nullptr, 0, TSR_ROLE_USER, o.text, 256, nullptr));
  NULL_CASE("text", tsr_chat_default_system(model, nullptr, 256, &o.count));
  NULL_CASE("length", tsr_chat_default_system(model, o.text, 256, nullptr));
  NULL_CASE("anchor", tsr_context_create(model, &bad_anchor, &made));
  NULL_CASE("primer", tsr_context_create(model, &bad_primer, &made));
  NULL_CASE("out", tsr_context_create(model, nullptr, nullptr));
  NULL_CASE("session", tsr_context_wait(context, 0, nullptr));
  NULL_CASE("metrics", tsr_context_get_metrics(context, nullptr));
  NULL_CASE("options", tsr_context_gate(context, nullptr, &o.gated));
  NULL_CASE("options->text_count", tsr_context_gate(context, &o.gate, &o.gated));
  o.gate.text_count = 2;
  NULL_CASE("options->texts", tsr_context_gate(context, &o.gate, &o.gated));
  o.gate.texts = &no_text[0];
  NULL_CASE("options->texts[1]", tsr_context_gate(context, &o.gate, &o.gated));
  o.gate.texts = o.texts;
  NULL_CASE("result", tsr_context_gate(context, &o.gate, nullptr));
  o.gate.question_count = 1;
  NULL_CASE("options->questions", tsr_context_gate(context, &o.gate, &o.gated));
  NULL_CASE("result", tsr_context_get_gate(context, nullptr, nullptr));
  NULL_CASE("text", tsr_chunk_create_text(context, nullptr, 4, nullptr, other_chunk.out()));
  NULL_CASE("text", tsr_chunk_create_text(context, nullptr, kNul, nullptr, other_chunk.out()));
  NULL_CASE("out", tsr_chunk_create_text(context, "a", 1, nullptr, nullptr));
  NULL_CASE("info", tsr_chunk_get_info(chunk, nullptr));
  NULL_CASE("ids", tsr_context_list_chunks(context, nullptr, 4, &o.count));
  NULL_CASE("count", tsr_context_list_chunks(context, &id, 1, nullptr));
  NULL_CASE("id", tsr_chunk_open(context, nullptr, other_chunk.out()));
  NULL_CASE("out", tsr_chunk_open(context, &id, nullptr));
  NULL_CASE("out", tsr_session_create(context, nullptr, nullptr));
  NULL_CASE("text", tsr_session_add_text(session, nullptr, 4, 0));
  NULL_CASE("text", tsr_session_add_text(session, nullptr, kNul, 0));
  NULL_CASE("tokens", tsr_session_add_tokens(session, nullptr, 2));
  ASSERT_OK(tsr_session_add_text(session, "something", kNul, 0));
  NULL_CASE("out", tsr_session_fork(session, nullptr));
  NULL_CASE("bytes", tsr_session_save(session, nullptr, 8, &o.count));
  NULL_CASE("size", tsr_session_save(session, o.text, 256, nullptr));
  NULL_CASE("bytes", tsr_session_restore(context, nullptr, 8, other_session.out()));
  NULL_CASE("out", tsr_session_restore(context, o.text, 8, nullptr));
  NULL_CASE("stops", tsr_session_generate(session, &no_stops));
  NULL_CASE("stops[0]", tsr_session_generate(session, &bad_stop));
  NULL_CASE("event", tsr_session_next(session, 0, nullptr));
  NULL_CASE("info", tsr_session_get_info(session, nullptr));
  NULL_CASE("tokens", tsr_session_get_tokens(session, nullptr, 8, &o.count));
  NULL_CASE("count", tsr_session_get_tokens(session, o.tokens, 8, nullptr));
  NULL_CASE("logits", tsr_session_evaluate(session, 0, nullptr, 512, &o.count));
  NULL_CASE("count", tsr_session_evaluate(session, 0, o.logits, 512, nullptr));
  NULL_CASE("report", tsr_session_get_report(session, nullptr));
#undef NULL_CASE
  EXPECT_EQ(made, nullptr);
  EXPECT_GT(token_count(session), 0u);
}

// What may be NULL: options, and pointers whose length is 0 (an empty std::string_view has one).
TEST_F(Handles, NullWhereNothingIsPointedTo) {
  uint64_t count = 9;
  EXPECT_OK(tsr_tokenize(model, nullptr, 0, 0, nullptr, 0, &count));
  EXPECT_EQ(count, 0u);
  EXPECT_OK(tsr_detokenize(model, nullptr, 0, 0, nullptr, 0, &count));
  EXPECT_EQ(count, 0u);
  EXPECT_OK(tsr_session_add_text(session, nullptr, 0, 0));
  EXPECT_OK(tsr_session_add_tokens(session, nullptr, 0));
  EXPECT_EQ(token_count(session), 0u);
  EXPECT_OK(tsr_session_get_tokens(session, nullptr, 0, &count));
  EXPECT_EQ(count, 0u);
  EXPECT_OK(tsr_chat_format(model, nullptr, 0, TSR_ROLE_USER, nullptr, 0, &count));
  EXPECT_GT(count, 0u);
  EXPECT_FAILS(tsr_chunk_create_text(context, nullptr, 0, nullptr, other_chunk.out()),
               TSR_INVALID_ARGUMENT, "text");
}

// A failed call leaves its results alone, sizing counts excepted.
TEST_F(Handles, ResultsAreWrittenOnSuccessOnly) {
  tsr_context context_out = context;
  tsr_context_options bad = small_context();
  bad.page_size = 7;
  EXPECT_FAILS(tsr_context_create(model, &bad, &context_out), TSR_INVALID_ARGUMENT, "page_size");
  EXPECT_EQ(context_out, static_cast<tsr_context>(context));
  tsr_model model_out = model;
  EXPECT_FAILS(tsr_model_load(runtime, "/nonexistent", kNul, nullptr, &model_out), TSR_NOT_FOUND,
               "/nonexistent");
  EXPECT_EQ(model_out, static_cast<tsr_model>(model));
  tsr_session session_out = session;
  EXPECT_FAILS(tsr_session_restore(context, "no session", 10, &session_out), TSR_CORRUPT_FILE,
               "saved session");
  EXPECT_EQ(session_out, static_cast<tsr_session>(session));
}

}  // namespace
}  // namespace tsr_test
