// Cancels, destruction and faults in every stage of a prompt that is repaired: the session goes on
// to the bits of one that nothing disturbed, and nothing is left behind.
#include <algorithm>

#include "backends/remote/faults.hpp"
#include "backends/remote/remote.hpp"
#include "tests/unit/engine/repair_fixture.hpp"

namespace tessera::test {
namespace {

const Dial kDials[] = {{TSR_REPAIR_HEAD},
                       {TSR_REPAIR_SELECT, 0, 0.4f},
                       {TSR_REPAIR_HEAD_SELECT, 9, 0.4f},
                       {TSR_REPAIR_HEAD_SELECT, 9, 0.4f, TSR_SESSION_RESELECT}};
constexpr uint32_t kNewTokens = 4;

// Two turns, each with chunks of its own that are encoded when they are needed.
class Talk {
 public:
  Talk(const tsr::Context& context, const Dial& dial)
      : made_(chunks(context, TSR_CHUNK_LAZY)), session(context, dial.options()) {}

  void add(int turn) {
    if (turn == 0) {
      session.add_anchor();
      session.add_chunk(made_[0]);
      session.add_text("between");
      session.add_chunk(made_[1]);
      session.add_text("and which of them?");
    } else {
      session.add_chunk(made_[2]);
      session.add_text("or this one?");
    }
    end_ = session.info().tokens + kNewTokens;
  }
  // What is left of the turn's answer.
  uint32_t left() const { return static_cast<uint32_t>(end_ - session.info().tokens); }
  // Answers what is left.
  void go_on() {
    if (left() > 0) generate(session, greedy(left()));
  }

 private:
  std::vector<tsr::Chunk> made_;
  uint64_t end_ = 0;

 public:
  tsr::Session session;
};

struct Result {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  bool operator==(const Result&) const = default;
};

Result end_of(Talk& talk) {
  return {talk.session.tokens(), talk.session.evaluate()};
}

Result undisturbed(const tsr::Context& context, const Dial& dial) {
  Talk talk(context, dial);
  for (const int turn : {0, 1}) {
    talk.add(turn);
    talk.go_on();
  }
  return end_of(talk);
}

class RepairCancel : public RepairFixture {
 protected:
  void SetUp() override {
    RepairFixture::SetUp();
    // So that a cancel meets the step it is meant for.
    if (GetParam() == "remote") remote::set_faults({.delay_us = 1000});
  }
};
TESSERA_ON_EACH_DEVICE(RepairCancel);

// Waits until so many steps more are done, or nothing is left to do.
void let_run(const tsr::Context& context, uint64_t begun, uint64_t steps) {
  engine::ContextProbe probe(context.get());
  while (context.metrics().steps < begun + steps && !probe.idle()) {
  }
}

TEST_P(RepairCancel, LeavesNoTraceInAnyStage) {
  for (const Dial& dial : kDials) {
    const Result wanted = undisturbed(exact(8), dial);
    for (uint64_t steps = 0; steps < 34 && !HasFailure(); ++steps) {
      SCOPED_TRACE("dial " + std::to_string(dial.mode) + ", cancelled after " +
                   std::to_string(steps) + " steps");
      const tsr::Context context = exact(8);
      Talk talk(context, dial);
      for (const int turn : {0, 1}) {
        talk.add(turn);
        const uint64_t prompt = talk.session.info().tokens, begun = context.metrics().steps;
        talk.session.generate(greedy(kNewTokens));
        let_run(context, begun, steps);
        talk.session.cancel();
        const Answer answer = read(talk.session);
        EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
        EXPECT_EQ(talk.session.info().tokens, prompt + answer.tokens);
        talk.go_on();
        EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      }
      EXPECT_EQ(end_of(talk), wanted);
      talk.session.reset();
      expect_only_caches(context);
    }
  }
}

TEST_P(RepairCancel, DestroyedInAnyStage) {
  for (const Dial& dial : kDials) {
    const tsr::Context context = exact(8);
    const Result wanted = undisturbed(context, dial);
    const uint64_t used = context.metrics().pages_used;
    for (uint64_t steps = 0; steps < 26 && !HasFailure(); ++steps) {
      const int last = static_cast<int>(steps % 2);
      Talk talk(context, dial);
      for (int turn = 0; turn <= last; ++turn) {
        talk.add(turn);
        if (turn < last) talk.go_on();
      }
      const uint64_t begun = context.metrics().steps;
      talk.session.generate(greedy(kNewTokens));
      let_run(context, begun, steps);
      talk.session.reset();
      while (context.metrics().sessions > 0 || !engine::ContextProbe(context.get()).idle()) {
      }
      expect_only_caches(context);
      EXPECT_EQ(context.metrics().pages_used, used) << "all of it was there before";
    }
    EXPECT_EQ(undisturbed(context, dial), wanted);
  }
}

class RepairFaults : public RepairFixture {
 protected:
  void lose_device(const Dial& dial, int64_t stride);
};
INSTANTIATE_TEST_SUITE_P(Devices, RepairFaults, testing::Values("remote"));
class FullRepairFaults : public RepairFaults {};
INSTANTIATE_TEST_SUITE_P(Devices, FullRepairFaults, testing::Values("remote"));

TEST_P(RepairFaults, TheNthStepFails) {
  for (const Dial& dial : kDials) {
    const Result wanted = undisturbed(exact(8), dial);
    int in_probe = 0, in_repair = 0, in_question = 0;  // of the first turn
    for (int64_t n = 0; !HasFailure(); ++n) {
      SCOPED_TRACE("dial " + std::to_string(dial.mode) + ", step " + std::to_string(n));
      const tsr::Context context = exact(8);
      Talk talk(context, dial);
      remote::set_faults({.fail_step_after = n});
      bool fired = false;
      for (const int turn : {0, 1}) {
        talk.add(turn);
        talk.session.generate(greedy(kNewTokens));
        const Answer answer = read(talk.session);
        EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
        if (answer.status == TSR_OK) continue;
        EXPECT_EQ(answer.status, TSR_INTERNAL);
        fired = true;
        if (turn == 0 && answer.tokens == 0) {
          const auto segments = engine::ContextProbe(context.get()).segments(talk.session.get());
          const auto overlay =
              std::ranges::find_if(segments, [](const engine::Segment& s) { return s.overlay(); });
          ++(overlay == segments.end() ? in_probe
             : overlay->pending() > 0  ? in_repair
                                       : in_question);
        }
        talk.go_on();
      }
      remote::set_faults({});
      EXPECT_EQ(end_of(talk), wanted);
      talk.session.reset();
      expect_only_caches(context);
      if (!fired) {
        EXPECT_GT(n, 15);
        break;
      }
    }
    EXPECT_GT(in_probe, 0);
    if (dial.mode == TSR_REPAIR_HEAD) continue;
    EXPECT_GT(in_repair, 0) << "no step of the repair failed";
    EXPECT_GT(in_question, 0) << "no step of the question failed";
  }
}

// At every `stride`-th call.
void RepairFaults::lose_device(const Dial& dial, int64_t stride) {
  release_models();
  for (int64_t n = 0; !HasFailure(); n += stride) {
    SCOPED_TRACE("dial " + std::to_string(dial.mode) + ", call " + std::to_string(n));
    bool fired = false;
    {
      const tsr::Model model = load_model("remote");
      const tsr::Context context(model, exact_options(8));
      Talk talk(context, dial);
      remote::set_faults({.lose_device_after = n});
      for (const int turn : {0, 1}) {
        talk.add(turn);
        if (fired) {
          EXPECT_EQ(status_of([&] { talk.session.generate(greedy(1)); }), TSR_DEVICE_LOST);
          continue;
        }
        talk.session.generate(greedy(kNewTokens));
        fired = read(talk.session).status == TSR_DEVICE_LOST;
        EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      }
      remote::set_faults({});
      expect_idle(context);
    }
    const remote::RemoteReport report = remote::remote_report();
    EXPECT_EQ(report.live, remote::RemoteStats{});
    EXPECT_EQ(report.left_behind, remote::RemoteStats{});
    if (!fired) {
      EXPECT_GT(n, 20);
      break;
    }
  }
}

TEST_P(RepairFaults, TheDeviceIsLostAtTheNthCall) {
  lose_device(kDials[3], 5);
}

TEST_P(FullRepairFaults, TheDeviceIsLostAtTheNthCall) {
  for (const Dial& dial : kDials) lose_device(dial, 1);
}

}  // namespace
}  // namespace tessera::test
