// SPDX-License-Identifier: Apache-2.0
// One SIMD vocabulary for AVX-512, AVX2+FMA, NEON and baseline x86-64. vf holds kLanes floats, vi as many int32.
// Arithmetic, comparison and shifts are the compiler's vector extensions; only what they cannot say is wrapped here.
// Every wrapper is lane-wise, so a loop written with it gives the same numbers at any width.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "core/half.h"
#include "core/macros.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace nf {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float vf __attribute__((vector_size(kLanes * 4)));
typedef int32_t vi __attribute__((vector_size(kLanes * 4)));
typedef uint32_t vu __attribute__((vector_size(kLanes * 4)));

NF_HD vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
NF_HD vi load(const int32_t* p) {
  vi v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
NF_HD vu load(const uint32_t* p) {
  vu v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
NF_HD void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
NF_HD void store(int32_t* p, vi v) { std::memcpy(p, &v, sizeof v); }
NF_HD void store(uint32_t* p, vu v) { std::memcpy(p, &v, sizeof v); }

NF_HD vf splat(float x) { return x - vf{}; }
NF_HD vi splat(int32_t x) { return x + vi{}; }
NF_HD vu splat(uint32_t x) { return x + vu{}; }

// mask lanes are 0 or -1, as comparisons of vector extensions give them
NF_HD vf select(vi mask, vf a, vf b) { return mask ? a : b; }
NF_HD vi select(vi mask, vi a, vi b) { return mask ? a : b; }

NF_HD bool any(vi mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)mask) != 0;
#elif defined(__aarch64__)
  return vmaxvq_u32((uint32x4_t)mask) != 0;
#else
  return _mm_movemask_ps((__m128)mask) != 0;
#endif
}

NF_HD vi bits(vf v) {
  vi r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}
NF_HD vf from_bits(vi v) {
  vf r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}

// a * b + c, one rounding where the hardware has FMA (see scalar.h for the distinction from fma)
NF_HD vf madd(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

// always correctly rounded, as the scalar fma
NF_HD vf fma(vf a, vf b, vf c) {
#if defined(__AVX2__) || defined(__aarch64__)
  return madd(a, b, c);
#else
  vf r;
  for (int i = 0; i < kLanes; ++i) r[i] = fma(a[i], b[i], c[i]);
  return r;
#endif
}

NF_HD vf min(vf a, vf b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
NF_HD vf max(vf a, vf b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

NF_HD vi floor_to_int(vf x) {
#if defined(__AVX512F__)
  return (vi)_mm512_cvttps_epi32(_mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
#elif defined(__AVX2__)
  return (vi)_mm256_cvttps_epi32(_mm256_floor_ps(x));
#else
  const vi t = __builtin_convertvector(x, vi);
  return t + (__builtin_convertvector(t, vf) > x);
#endif
}
NF_HD vf floor_of(vf x) {
#if defined(__AVX512F__)
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
  return _mm256_floor_ps(x);
#elif defined(__aarch64__)
  return vrndmq_f32(x);
#else
  const vi t = floor_to_int(x);
  const vf magnitude = x < 0 ? -x : x;
  return magnitude < splat(8388608.0f) ? __builtin_convertvector(t, vf) : x;  // from 2^23 on, all are integers
#endif
}
NF_HD vf to_float(vi v) { return __builtin_convertvector(v, vf); }

NF_HD vf root_of(vf x) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#elif defined(__aarch64__)
  return vsqrtq_f32(x);
#else
  return _mm_sqrt_ps(x);
#endif
}

// base[idx[i]]: 4-byte gathers
NF_HD vf gather(const float* base, vi idx) {
#if defined(__AVX512F__)
  // one by one from memory: 0.8 cycles each on Zen 5, where the instruction takes 1.25 and holds up all others
  int32_t at[kLanes];
  store(at, idx);
  asm("" : "+m"(at));  // or the compiler takes them out of the register, which takes longer
  const auto four = [&](int l) { return _mm_setr_ps(base[at[l]], base[at[l + 1]], base[at[l + 2]], base[at[l + 3]]); };
  const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(four(0)), four(4), 1);
  const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(four(8)), four(12), 1);
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
#elif defined(__AVX2__)
  return _mm256_i32gather_ps(base, (__m256i)idx, 4);
#else
  vf r;
  for (int i = 0; i < kLanes; ++i) r[i] = base[idx[i]];
  return r;
#endif
}
NF_HD vi gather(const int32_t* base, vi idx) {
#if defined(__AVX512F__)
  return (vi)_mm512_i32gather_epi32((__m512i)idx, base, 4);
#elif defined(__AVX2__)
  return (vi)_mm256_i32gather_epi32(base, (__m256i)idx, 4);
#else
  vi r;
  for (int i = 0; i < kLanes; ++i) r[i] = base[idx[i]];
  return r;
#endif
}

// kLanes consecutive halves to floats and back
NF_HD vf load(const half* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  vf r;
  for (int i = 0; i < kLanes; ++i) r[i] = to_float(p[i]);
  return r;
#endif
}
NF_HD void store(half* p, vf v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes; ++i) p[i] = to_half(v[i]);
#endif
}

// Stores the lanes where `mask` is -1 one after the other and returns their number; p has room for all lanes.
NF_HD int store_where(uint32_t* p, vi mask, vu v) {
#if defined(__AVX512F__)
  const __mmask16 wanted = _mm512_movepi32_mask((__m512i)mask);
  _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(wanted, (__m512i)v));
  return __builtin_popcount(wanted);
#else
  int n = 0;
  for (int l = 0; l < kLanes; ++l) {
    p[n] = v[l];
    n -= mask[l];
  }
  return n;
#endif
}

namespace detail {
template <int First, int... L>
NF_HD vf interleave_from(vf a, vf b, std::integer_sequence<int, L...>) {
  return __builtin_shufflevector(a, b, (First + L / 2 + L % 2 * kLanes)...);
}
template <int First, int... L>
NF_HD vf every_second(vf low, vf high, std::integer_sequence<int, L...>) {
  return __builtin_shufflevector(low, high, (First + 2 * L)...);
}
}  // namespace detail

// Two vectors as a0 b0 a1 b1 ... in memory, and back.
NF_HD void store_interleaved(float* p, vf a, vf b) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>();
  store(p, detail::interleave_from<0>(a, b, lanes));
  store(p + kLanes, detail::interleave_from<kLanes / 2>(a, b, lanes));
}

NF_HD void load_interleaved(const float* p, vf* a, vf* b) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>();
  const vf low = load(p), high = load(p + kLanes);
  *a = detail::every_second<0>(low, high, lanes);
  *b = detail::every_second<1>(low, high, lanes);
}

// Sums of neighbours: a0 + a1, a2 + a3, ..., b0 + b1, ...
NF_HD vf sum_pairs(vf a, vf b) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>();
  return detail::every_second<0>(a, b, lanes) + detail::every_second<1>(a, b, lanes);
}

// Sum of all lanes by halving: the order is fixed for a given kLanes, and differs between widths.
NF_HD float reduce_add(vf v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int n = kLanes / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}

}  // namespace nf
