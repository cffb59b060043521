// Sessions as bytes: the same answers afterwards, and nothing but an error from damaged ones.
#include <cstring>
#include <optional>
#include <thread>

#include "runtime/engine/snapshot.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

const std::string kAnchor = "<|im_start|>the anchor";

tsr::ContextOptions anchored(uint64_t pages = 512) {
  tsr::ContextOptions options = small(pages);
  options.set_anchor(kAnchor);
  return options;
}

tsr::SessionOptions dial(tsr_repair mode) {
  tsr::SessionOptions options = repair(mode);
  options.head_tokens = 5;
  options.select_share = 0.3f;
  return options;
}

// Anchor, chunks, two turns.
tsr::Session conversation(const tsr::Context& context, tsr_repair mode) {
  tsr::Session session(context, dial(mode));
  session.add_anchor();
  session.add_chunk(tsr::Chunk(context, digits(20, 1)));
  session.add_text(digits(11, 2));
  session.add_chunk(tsr::Chunk(context, digits(13, 3)));
  session.add_chunk(tsr::Chunk(context, digits(20, 1)));
  session.add_text("a question");
  generate(session, greedy(6));
  session.add_text("another question");
  generate(session, greedy(6));
  return session;
}

class Snapshot : public EngineTest {
 protected:
  // Bytes with something changed: an error, or (where they were sealed again) a session that works.
  void restore_changed(const tsr::Context& context, const std::vector<uint8_t>& bytes,
                       bool sealed) {
    std::optional<tsr::Session> session;
    const tsr_status status =
        status_of([&] { session.emplace(tsr::Session::restore(context, bytes)); });
    if (status == TSR_OK) {
      EXPECT_TRUE(sealed) << "damage was not noticed";
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      session->add_text("x");
      const tsr_status answered = status_of([&] { session->generate(greedy(2)); });
      if (answered == TSR_OK) {
        read(*session);
      } else {
        EXPECT_EQ(answered, TSR_CAPACITY);
      }
      session->rewind(session->info().tokens / 2);
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    } else {
      EXPECT_TRUE(status == TSR_CORRUPT_FILE || status == TSR_VERSION_MISMATCH ||
                  (sealed && status == TSR_CAPACITY))
          << status;
    }
  }

  void flip_bits(int count) {
    const tsr::Context context = this->context(anchored());
    const std::vector<uint8_t> bytes = conversation(context, TSR_REPAIR_HEAD_SELECT).save();
    Random random(1);
    for (int i = 0; i < count; ++i) {
      std::vector<uint8_t> damaged = bytes;
      // A third of them where the structure is.
      const uint64_t range = i % 3 == 0 ? 1200 : bytes.size();
      const uint64_t bit = random.below(8 * range);
      damaged[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      restore_changed(context, damaged, false);
    }
    for (int i = 0; i < count; ++i) {
      std::vector<uint8_t> damaged = bytes;
      damaged.resize(i < 64 ? static_cast<size_t>(i) : random.below(bytes.size()));
      if (damaged.empty()) damaged.reserve(1);
      restore_changed(context, damaged, false);
    }
    expect_only_caches(context);
  }

  void forge(int count) {
    const tsr::Context context = this->context(anchored());
    const std::vector<uint8_t> bytes = conversation(context, TSR_REPAIR_HEAD_SELECT).save();
    constexpr uint64_t kHeader = 32;
    const uint64_t structure = bytes.size() - engine::decode(bytes).pages.size();
    Random random(2);
    int taken = 0;
    for (int i = 0; i < count; ++i) {
      std::vector<uint8_t> forged = bytes;
      for (uint64_t n = 1 + random.below(2); n > 0; --n) {
        const uint64_t at = (kHeader + random.below(structure - kHeader)) / 4 * 4;
        const uint32_t old = forged[at];
        const uint32_t values[] = {0, 1, old + 1, old - 1, 64, 0xff, UINT32_MAX, 0x80000000u};
        const uint32_t value = values[random.below(8)];
        std::memcpy(forged.data() + at, &value, sizeof value);
      }
      engine::seal(forged);
      const uint64_t used = context.metrics().sessions;
      restore_changed(context, forged, true);
      EXPECT_EQ(context.metrics().sessions, used);
      ++taken;
    }
    EXPECT_EQ(taken, count);
    expect_only_caches(context);
  }
};
TESSERA_ON_EACH_DEVICE(Snapshot);
class FullSnapshot : public Snapshot {};
TESSERA_ON_EACH_DEVICE(FullSnapshot);

constexpr tsr_repair kModes[] = {TSR_REPAIR_NONE, TSR_REPAIR_HEAD, TSR_REPAIR_SELECT,
                                 TSR_REPAIR_HEAD_SELECT, TSR_REPAIR_FULL};

TEST_P(Snapshot, TheNextAnswerIsTheSame) {
  for (const tsr_repair mode : kModes) {
    for (const tsr_kv_type type : {TSR_KV_F16, TSR_KV_F32}) {
      SCOPED_TRACE(mode);
      tsr::ContextOptions options = anchored();
      options.kv_type = type;
      const tsr::Context context = this->context(options), other = this->context(options);
      tsr::Session session = conversation(context, mode);
      const std::vector<uint8_t> bytes = session.save();
      EXPECT_EQ(session.save(), bytes);
      tsr::Session here = tsr::Session::restore(context, bytes);
      tsr::Session there = tsr::Session::restore(other, bytes);
      EXPECT_EQ(other.metrics().chunks, 0u);
      expect_idle(other);
      for (tsr::Session* s : {&here, &there}) {
        EXPECT_EQ(s->tokens(), session.tokens());
        EXPECT_EQ(s->save(), bytes);
      }
      for (tsr::Session* s : {&session, &here, &there}) {
        s->add_text("a third question");
        s->generate(drawn(9, 4));
      }
      for (tsr::Session* s : {&session, &here, &there}) read(*s);
      EXPECT_EQ(here.tokens(), session.tokens());
      EXPECT_EQ(there.tokens(), session.tokens());
      const std::vector<float> logits = session.evaluate();
      EXPECT_EQ(here.evaluate(), logits);
      EXPECT_EQ(there.evaluate(), logits);
      EXPECT_EQ(there.report().tokens_computed, 1u) << "no text is computed again";
      // Another turn with another chunk, and taken back from there.
      for (tsr::Session* s : {&session, &there}) {
        s->add_chunk(tsr::Chunk(s == &there ? other : context, digits(15, 9)));
        s->add_text("and this?");
        s->evaluate();
        s->rewind(70);
        s->add_text("so?");
      }
      EXPECT_EQ(there.evaluate(), session.evaluate());
      here.reset();
      session.reset();
      expect_only_caches(context);
      expect_idle(other);
    }
  }
}

// With nothing computed, all of it, and after a cancel anywhere.
TEST_P(Snapshot, OfAnySession) {
  tsr::ContextOptions options = anchored();
  options.max_step_tokens = 3;
  const tsr::Context context = this->context(options), other = this->context(options);
  const auto prompt = [](const tsr::Context& in, tsr::Session& session) {
    session.add_anchor();
    session.add_chunk(tsr::Chunk(in, digits(20, 1)));
    session.add_text("a question");
  };
  tsr::Session empty(context);
  tsr::Session restored = tsr::Session::restore(other, empty.save());
  EXPECT_EQ(restored.info().tokens, 0u);
  prompt(other, restored);
  const std::vector<int32_t> wanted = generate(restored, greedy(6));
  for (uint64_t steps = 0; steps < 30; steps += 2) {
    tsr::Session session(context);
    prompt(context, session);
    const uint64_t begun = context.metrics().steps;
    if (steps > 0) session.generate(greedy(6));
    engine::ContextProbe probe(context.get());
    while (context.metrics().steps + 1 < begun + steps && !probe.idle()) {
    }
    session.cancel();
    if (steps > 0 && read(session).tokens > 0) continue;
    for (const tsr::Context* in : {&context, &other}) {
      tsr::Session again = tsr::Session::restore(*in, session.save());
      EXPECT_EQ(generate(again, greedy(6)), wanted) << steps;
      expect_idle(*in);
    }
  }
  // An answer right behind a chunk.
  tsr::Session behind(context);
  behind.add_chunk(tsr::Chunk(context, digits(9, 2)));
  generate(behind, greedy(3));
  tsr::Session again = tsr::Session::restore(other, behind.save());
  for (tsr::Session* s : {&behind, &again}) s->add_text("?");
  EXPECT_EQ(again.evaluate(), behind.evaluate());
}

TEST_P(Snapshot, Sizes) {
  const tsr::Context context = this->context(anchored());
  const tsr::Session session = conversation(context, TSR_REPAIR_HEAD);
  uint64_t size = 0;
  ASSERT_EQ(tsr_session_save(session.get(), nullptr, 0, &size), TSR_OK);
  std::vector<uint8_t> bytes(size, 7);
  uint64_t again = 0;
  EXPECT_EQ(tsr_session_save(session.get(), bytes.data(), size - 1, &again), TSR_BUFFER_TOO_SMALL);
  EXPECT_EQ(again, size);
  EXPECT_EQ(bytes, std::vector<uint8_t>(size, 7));
  EXPECT_EQ(tsr_session_save(session.get(), bytes.data(), size, &again), TSR_OK);
  EXPECT_EQ(bytes, session.save());
  // Its own pages and little else: chunks and the anchor are but tokens.
  const uint64_t pages = engine::decode(bytes).pages.size();
  EXPECT_LT(size - pages, 2000u);
  EXPECT_LT(pages, context.metrics().pages_used * context.metrics().page_bytes);
}

TEST_P(Snapshot, OfAnotherContext) {
  const tsr::Context context = this->context(anchored());
  const std::vector<uint8_t> bytes = conversation(context, TSR_REPAIR_HEAD).save();
  const auto refused = [&](const tsr::Context& other, const char* what) {
    std::string message;
    EXPECT_EQ(status_of([&] { tsr::Session::restore(other, bytes); }, &message),
              TSR_VERSION_MISMATCH);
    EXPECT_NE(message.find(what), std::string::npos) << message;
    EXPECT_EQ(other.metrics().pages_used, 0u);
    EXPECT_EQ(other.metrics().sessions, 0u);
  };
  tsr::ContextOptions options = anchored();
  options.kv_type = TSR_KV_F32;
  refused(this->context(options), "kv_type");
  options = anchored();
  options.page_size = 16;
  refused(this->context(options), "page_size 8 instead of 16");
  refused(this->context(small()), "anchor");
  options = anchored();
  options.flags = 0;
  options.set_primer("a primer");
  refused(this->context(options), "primer");

  TempFolder folder;
  TinyModel other;
  other.context = 8192;
  other.seed += 1;
  write_tiny_model(folder.file("other.gguf"), other);
  const tsr::Model another = load_model(GetParam(), folder.file("other.gguf"));
  refused(tsr::Context(another, anchored()), "model");
  tsr::ModelOptions reference;
  reference.math = TSR_MATH_REFERENCE;
  const std::string device = GetParam();
  reference.device = device.data();
  reference.device_length = device.size();
  const tsr::Runtime runtime;
  refused(tsr::Context(tsr::Model(runtime, model_path(), reference), anchored()), "math mode");
}

TEST_P(Snapshot, WhatDoesNotFit) {
  const tsr::Context context = this->context(anchored());
  const std::vector<uint8_t> bytes = conversation(context, TSR_REPAIR_FULL).save();
  const uint64_t pages = engine::decode(bytes).pages.size() / context.metrics().page_bytes;
  std::string message;
  const tsr::Context tight = this->context(anchored(pages - 1));
  EXPECT_EQ(status_of([&] { tsr::Session::restore(tight, bytes); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find(std::to_string(context.metrics().page_bytes) + " more"),
            std::string::npos)
      << message;
  EXPECT_EQ(tight.metrics().pages_used, 0u);
  const tsr::Context just = this->context(anchored(pages));
  tsr::Session session = tsr::Session::restore(just, bytes);
  EXPECT_EQ(status_of([&] { tsr::Session::restore(just, bytes); }), TSR_CAPACITY);
  session.reset();
  session = tsr::Session::restore(just, bytes);
  tsr::ContextOptions options = anchored();
  options.max_session_tokens = 60;
  EXPECT_EQ(status_of([&] { tsr::Session::restore(this->context(options), bytes); }, &message),
            TSR_CAPACITY);
  EXPECT_NE(message.find("60"), std::string::npos) << message;
  // Caches make room.
  tsr::Session last(context);
  last.add_text(digits(16, 7));
  last.generate(greedy(512 * 8 - 32));
  last.cancel();
  read(last);
  last.reset();
  session = tsr::Session::restore(context, bytes);
  expect_idle(context);
}

// Sessions that were saved one by one share their beginnings again.
TEST_P(Snapshot, RestoredOnesShare) {
  const tsr::Context context = this->context(anchored()), other = this->context(anchored());
  std::vector<tsr::Session> restored;
  for (int i = 0; i < 4; ++i) {
    tsr::Session session(context, dial(TSR_REPAIR_NONE));
    session.add_text(digits(64, 1));
    session.evaluate();
    restored.push_back(tsr::Session::restore(other, session.save()));
  }
  EXPECT_EQ(other.metrics().pages_used, 4 * 8u);
  for (tsr::Session& session : restored) {
    session.add_text("?");
    session.evaluate();
  }
  EXPECT_EQ(other.metrics().pages_used, 8u + 4u);
  expect_idle(other);
}

// While others are computed for.
TEST_P(Snapshot, BetweenTheStepsOfOthers) {
  const tsr::Context context = this->context(anchored()), other = this->context(anchored());
  tsr::Session plain(other);
  plain.add_text(digits(30, 4));
  const std::vector<int32_t> wanted = generate(plain, greedy(200));
  tsr::SessionOptions wide;
  wide.event_capacity = 1000;
  tsr::Session busy(context, wide);
  tsr::Session session = conversation(context, TSR_REPAIR_HEAD);
  const std::vector<uint8_t> bytes = session.save();
  busy.add_text(digits(30, 4));
  busy.generate(greedy(200));
  std::thread saving([&] {
    for (int i = 0; i < 20; ++i) EXPECT_EQ(session.save(), bytes);
  });
  std::thread restoring([&] {
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(tsr::Session::restore(context, bytes).save(), bytes);
    }
  });
  saving.join();
  restoring.join();
  EXPECT_EQ(status_of([&] { busy.save(); }), TSR_BUSY);
  read(busy);
  std::vector<int32_t> answer = busy.tokens();
  answer.erase(answer.begin(), answer.end() - 200);
  EXPECT_EQ(answer, wanted);
  expect_idle(context);
}

TEST_P(Snapshot, DamageIsNoticed) {
  flip_bits(150);
}

TEST_P(FullSnapshot, DamageIsNoticedAThousandTimes) {
  flip_bits(1000);
}

TEST_P(Snapshot, ForgedBytesAreNoDanger) {
  forge(300);
}

TEST_P(FullSnapshot, ForgedBytesAreNoDangerTenThousandTimes) {
  forge(10'000);
}

}  // namespace
}  // namespace tessera::test
