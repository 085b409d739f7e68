// SPDX-License-Identifier: Apache-2.0
// bfloat16 storage type: the upper half of a float. Arithmetic is done in float, apart from the dot products of pairs
// that some machines offer (cpu/mlp_tile.h). Conversion rounds to nearest even; NaN stays NaN.
#pragma once

#include <cstdint>

#include "core/scalar.h"
#include "core/simd.h"

namespace nf {

struct bf16 {
  uint16_t bits;
};

// Two neighbours that a dot product multiplies in one lane, the first in the low bits.
struct bf16_pair {
  uint32_t bits;
};

NF_HD float to_float(bf16 x) { return bits_float(uint32_t(x.bits) << 16); }
NF_HD bf16 to_bf16(float x) {
  const uint32_t bits = float_bits(x);
  if (x != x) return bf16{static_cast<uint16_t>(bits >> 16 | 0x40u)};
  return bf16{static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

typedef uint16_t vu16 __attribute__((vector_size(kLanes * 2)));

// kLanes consecutive values
NF_HD vu load_bits(const bf16* p) {
#if defined(__AVX512F__)  // one instruction, which GCC does not find
  return (vu)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
  vu16 v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, vu);
#endif
}
NF_HD vf load(const bf16* p) { return from_bits((vi)(load_bits(p) << 16)); }
NF_HD void store(bf16* p, vf x) {
#if defined(__AVX512F__)
  // Only for machines with these instructions (bf16_products()); the intrinsic would bind whole functions to them.
  __m256i v;
  asm("vcvtneps2bf16 %1, %0" : "=v"(v) : "v"(x));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
#else
  const vu b = (vu)bits(x);
  const vu rounded = (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
  const vu16 v = __builtin_convertvector((vu)select(x == x, (vi)rounded, (vi)(b >> 16 | 0x40u)), vu16);
  std::memcpy(p, &v, sizeof v);
#endif
}
// v where the kLanes values at p are not zero, and zero elsewhere.
NF_HD vf where_not_zero(const bf16* p, vf v) {
#if defined(__AVX512F__)
  const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_maskz_mov_ps(_mm256_test_epi16_mask(values, _mm256_set1_epi16(0x7fff)), v);
#else
  return load(p) == vf{} ? vf{} : v;
#endif
}

// Pairs of two rows of N values, column by column.
template <int N, int... L>
NF_HD void pair_columns(const bf16* low, const bf16* high, bf16_pair* pairs, std::integer_sequence<int, L...>) {
  typedef uint16_t Values __attribute__((vector_size(2 * N)));
  Values a, b;
  std::memcpy(&a, low, sizeof a);
  std::memcpy(&b, high, sizeof b);
  const auto both = __builtin_shufflevector(a, b, (L / 2 + L % 2 * N)...);
  std::memcpy(pairs, &both, sizeof both);
}
template <int N>
NF_HD void pair_columns(const bf16* low, const bf16* high, bf16_pair* pairs) {
  pair_columns<N>(low, high, pairs, std::make_integer_sequence<int, 2 * N>());
}

}  // namespace nf
