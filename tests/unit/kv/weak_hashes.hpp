#pragma once

#include <cstdint>

#include "runtime/kv/hash_mask.hpp"

namespace tessera::kv::test {

// Hashes of keys keep these bits while it lives; without any, all collide.
struct WeakHashes {
  explicit WeakHashes(uint64_t mask = 0) { g_hash_mask = mask; }
  ~WeakHashes() { g_hash_mask = ~uint64_t{0}; }
  WeakHashes(const WeakHashes&) = delete;
  WeakHashes& operator=(const WeakHashes&) = delete;
};

}  // namespace tessera::kv::test
