// How far one row of logits is from another.
#pragma once

#include <cstdint>
#include <span>

namespace tessera::engine {

// KL(p || q) in nats of the softmaxes of two rows of equal length, at least 0. Not finite where a
// logit is not.
double divergence(std::span<const float> p, std::span<const float> q);

// Index of the largest; ties to the lower one.
int32_t likeliest(std::span<const float> row);

}  // namespace tessera::engine
