// What the tests of memory that runs out share: requests that end with an answer or for lack of
// memory, and one that is tried with each of its allocations failing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/unit/engine/allocation_faults.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {

inline constexpr uint32_t kNewTokens = 10;

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

// Starts a request; reads it to its end; both.
Outcome start(tsr_session session, Ask ask);
void read_to_end(tsr_session session, Outcome& outcome);
Outcome request(tsr_session session, Ask ask = Ask::plain);

// Whether the request failed, which must have been for memory, and said so.
bool expect_answer_or_failure(const Outcome& outcome);

// Of whoever failed: what it has is what it would have had.
void expect_begins(const std::vector<int32_t>& wanted, const std::vector<int32_t>& tokens);

// A prompt of the anchor, texts and chunks, one of them not encoded yet.
tsr::Session chunks_and_text(const tsr::Context& context);

class MemoryFixture : public EngineTest {
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
  void run(Setup setup, int64_t length, int64_t stride, Ask ask = Ask::plain);

  uint64_t load_failures_ = 0;  // of the disk tier, in all that ran
  uint64_t store_failures_ = 0;
};

}  // namespace tessera::test
