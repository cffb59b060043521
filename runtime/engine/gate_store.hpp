// What the gate measured, by setting: in memory and, where there is a folder, in a small file each.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "backends/backend.hpp"
#include "runtime/engine/session_state.hpp"
#include "runtime/kv/canonical_store.hpp"
#include "runtime/kv/shared_folder.hpp"

namespace tessera::engine {

// All that decides how far a setting is from full prefill. Fields that its repair mode does not use
// are zero.
struct GateKey {
  kv::Identity base;  // fingerprint of model, KV layout, anchor and primer
  MathMode math = MathMode::fast;
  Repair repair = Repair::full;
  uint32_t head_tokens = 0;
  float select_share = 0;
  float select_layers = 0;

  // All fields, little-endian.
  using Bytes = std::array<uint8_t, 36>;
  Bytes bytes() const;
  // "<32 hexadecimal digits of a hash of the bytes>.gate"
  std::string file_name() const;
};

// The fields of tsr_gate_result that are measured.
struct GateResult {
  float kl_mean = 0;     // nats, over all tokens of all answers
  float kl_first = 0;    // over the answers' first tokens
  float kl_p90 = 0;      // not exceeded by 90 % of the tokens
  float top1 = 0;        // share of the tokens with the same likeliest token
  float recomputed = 0;  // share of the chunks' tokens
  uint64_t prompts = 0;
  uint64_t tokens = 0;  // of all answers
};

// Any thread; its lock is its own, and held while a file is read or written.
class GateStore {
 public:
  // Results are also looked for and kept in this folder, which must live while the store is used.
  // Set before the first use.
  void set_folder(const kv::SharedFolder* folder) { folder_ = folder; }

  // Replaces what was known of this setting. Empty, or why the file could not be written: then the
  // result is in memory alone. If it throws, nothing changed in memory.
  std::string put(const GateKey& key, const GateResult& result);
  // A file that is damaged is removed, and its setting counts as not measured.
  std::optional<GateResult> find(const GateKey& key);

 private:
  std::mutex lock_;
  const kv::SharedFolder* folder_ = nullptr;
  std::map<GateKey::Bytes, GateResult> known_;
};

}  // namespace tessera::engine
