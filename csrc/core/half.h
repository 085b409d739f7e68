// SPDX-License-Identifier: Apache-2.0
// IEEE binary16 storage type. Arithmetic is always done in float; conversion rounds to nearest even.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace nf {

struct half {
  uint16_t bits;
};

NF_HD float to_float(half h) {
#if defined(__F16C__) && !defined(__CUDACC__)
  return _cvtsh_ss(h.bits);
#elif defined(__CUDA_ARCH__)
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h.bits));
  return x;
#else
  const uint32_t sign = uint32_t(h.bits & 0x8000u) << 16;
  const uint32_t magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // The exponent is rebased by a multiplication, which also normalises subnormal halves exactly.
  return bits_float(sign | float_bits(bits_float(magnitude << 13) * bits_float(0x77800000u)));
#endif
}

NF_HD half to_half(float x) {
#if defined(__F16C__) && !defined(__CUDACC__)
  return half{static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT))};
#elif defined(__CUDA_ARCH__)
  half h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(x));
  return h;
#else
  const uint32_t bits = float_bits(x);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return half{static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu))};
  if (magnitude >= 0x477ff000u) return half{static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 leaves the rounded mantissa in the low bits
    return half{static_cast<uint16_t>(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u;
  return half{static_cast<uint16_t>(sign | rounded >> 13)};
#endif
}

// Two halves in one word, the first in its low bits.
NF_HD uint32_t pack_halves(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  return to_half(low).bits | uint32_t(to_half(high).bits) << 16;
#endif
}
// As pack_halves, but what is beyond the largest half becomes that, not infinite. NaN stays NaN.
NF_HD uint32_t pack_finite_halves(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t word = pack_halves(low, high);
  asm("min.NaN.f16x2 %0, %0, %1;" : "+r"(word) : "r"(0x7bff7bffu));
  asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(word) : "r"(0xfbfffbffu));
  return word;
#else
  const auto finite = [](float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; };
  return pack_halves(finite(low), finite(high));
#endif
}
NF_HD float low_half(uint32_t word) { return to_float(half{static_cast<uint16_t>(word)}); }
NF_HD float high_half(uint32_t word) { return to_float(half{static_cast<uint16_t>(word >> 16)}); }

NF_HD float to_float(float x) { return x; }
NF_HD double to_float(double x) { return x; }

}  // namespace nf
