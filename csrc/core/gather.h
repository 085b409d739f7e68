// SPDX-License-Identifier: Apache-2.0
// Gathers of short rows: F consecutive values for each of kLanes indices, widened to float, in the order of memory
// (lane l of vector v holds value (v * kLanes + l) % F of row (v * kLanes + l) / F). `spread` puts one number per row
// into that order. Nothing outside the named rows is read.
#pragma once

#include <cstring>
#include <utility>

#include "core/simd.h"

namespace nf {

template <typename P, int F>
NF_HD void gather_rows(const P* base, const uint32_t* idx, vf (&rows)[F]) {
  P buffer[kLanes * F];
  for (int l = 0; l < kLanes; ++l) std::memcpy(buffer + l * F, base + int64_t(idx[l]) * F, F * sizeof(P));
  for (int v = 0; v < F; ++v) rows[v] = load(buffer + v * kLanes);
}

#if defined(__AVX2__)
// Rows of 4 or 8 bytes one by one: the gather instructions take two to three times as long (0.65 against 1.85 cycles a
// row of 8 bytes on Zen 5, 0.8 against 1.25 of 4).
namespace detail {
NF_HD __m128i sixteen_bytes(const half* base, const uint32_t* idx) {
  int32_t rows[4];
  for (int l = 0; l < 4; ++l) std::memcpy(rows + l, base + 2 * int64_t(idx[l]), sizeof(int32_t));
  return _mm_setr_epi32(rows[0], rows[1], rows[2], rows[3]);
}
// Two and four rows of 8 bytes.
NF_HD __m128 two_rows(const void* base, const uint32_t* idx) {
  double rows[2];
  for (int l = 0; l < 2; ++l) std::memcpy(rows + l, static_cast<const char*>(base) + 8 * int64_t(idx[l]), 8);
  return _mm_castpd_ps(_mm_setr_pd(rows[0], rows[1]));
}
NF_HD __m256 four_rows(const void* base, const uint32_t* idx) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(two_rows(base, idx)), two_rows(base, idx + 2), 1);
}
#if defined(__AVX512F__)
NF_HD vf widen(const half* base, const uint32_t* idx) {
  const __m256i low = _mm256_castsi128_si256(sixteen_bytes(base, idx));
  return _mm512_cvtph_ps(_mm256_inserti128_si256(low, sixteen_bytes(base, idx + 4), 1));
}
NF_HD vf widen(const float* base, const uint32_t* idx) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(four_rows(base, idx)), four_rows(base, idx + 4), 1);
}
NF_HD vf widen_fours(const half* base, const uint32_t* idx) {
  return _mm512_cvtph_ps(_mm256_castps_si256(four_rows(base, idx)));
}
#else
NF_HD vf widen(const half* base, const uint32_t* idx) { return _mm256_cvtph_ps(sixteen_bytes(base, idx)); }
NF_HD vf widen(const float* base, const uint32_t* idx) { return four_rows(base, idx); }
NF_HD vf widen_fours(const half* base, const uint32_t* idx) {
  return _mm256_cvtph_ps(_mm_castps_si128(two_rows(base, idx)));
}
#endif
}  // namespace detail

template <>
NF_HD void gather_rows<half, 2>(const half* base, const uint32_t* idx, vf (&rows)[2]) {
  for (int v = 0; v < 2; ++v) rows[v] = detail::widen(base, idx + v * kLanes / 2);
}
template <>
NF_HD void gather_rows<float, 2>(const float* base, const uint32_t* idx, vf (&rows)[2]) {
  for (int v = 0; v < 2; ++v) rows[v] = detail::widen(base, idx + v * kLanes / 2);
}
// Through the buffer above, GCC 13.3 gives other numbers at -O3 for AVX-512 (GCC 12 does not, and rows of other sizes
// are right with both).
template <>
NF_HD void gather_rows<half, 4>(const half* base, const uint32_t* idx, vf (&rows)[4]) {
  for (int v = 0; v < 4; ++v) rows[v] = detail::widen_fours(base, idx + v * kLanes / 4);
}
#endif

namespace detail {
template <int F, int V, int... L>
NF_HD vf spread_vector(vf x, std::integer_sequence<int, L...>) {
  return __builtin_shufflevector(x, x, ((V * kLanes + L) / F)...);
}
template <int F, int... V>
NF_HD void spread_all(vf x, vf (&out)[F], std::integer_sequence<int, V...>) {
  ((out[V] = spread_vector<F, V>(x, std::make_integer_sequence<int, kLanes>())), ...);
}
}  // namespace detail

template <int F>
NF_HD void spread(vf x, vf (&out)[F]) {
  detail::spread_all<F>(x, out, std::make_integer_sequence<int, F>());
}

}  // namespace nf
