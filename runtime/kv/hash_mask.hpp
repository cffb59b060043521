// Hashes of keys only find; what they were made of is compared before a hit is trusted. Tests make
// all hashes collide to show it.
#pragma once

#include <atomic>
#include <cstdint>

namespace tessera::kv {

// Bits of 64 that hashes of texts and prefix keys keep: all, except in tests.
inline std::atomic<uint64_t> g_hash_mask{~uint64_t{0}};

inline uint64_t masked(uint64_t hash) {
  return hash & g_hash_mask.load(std::memory_order_relaxed);
}

}  // namespace tessera::kv
