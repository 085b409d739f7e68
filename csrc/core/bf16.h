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
  vu16 v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, vu);
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

}  // namespace nf
