// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: the value is a pure function of (seed, index, dimension), so that results do
// not depend on thread count, device or order. Two rounds of the SplitMix64 finaliser (Steele et al. 2014).
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf {

NF_HD uint64_t mix64(uint64_t z) {
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

NF_HD uint32_t random_u32(uint64_t seed, uint64_t index, uint32_t dimension) {
  const uint64_t a = mix64(seed + 0x9e3779b97f4a7c15ull * (index + 1));
  return static_cast<uint32_t>(mix64(a + 0x9e3779b97f4a7c15ull * (dimension + 1)) >> 32);
}

// Seed of an independent stream per (seed, step, purpose): each consumer of random numbers has its own purpose.
NF_HD uint64_t random_stream(uint64_t seed, uint64_t step, uint32_t purpose) {
  return mix64(mix64(seed + 0x9e3779b97f4a7c15ull * (step + 1)) + 0xd1b54a32d192ed03ull * (purpose + 1));
}

// Uniform in [0, 1): multiples of 2^-24.
NF_HD float random_uniform(uint64_t seed, uint64_t index, uint32_t dimension) {
  return static_cast<float>(random_u32(seed, index, dimension) >> 8) * 0x1p-24f;
}

// Uniform integer in [0, n) by multiply-high; the bias is below n / 2^32.
NF_HD uint32_t random_below(uint64_t seed, uint64_t index, uint32_t dimension, uint32_t n) {
  return static_cast<uint32_t>(uint64_t(random_u32(seed, index, dimension)) * n >> 32);
}

}  // namespace nf
