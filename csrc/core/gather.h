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
NF_HD void gather_rows(const P* base, vu idx, vf (&rows)[F]) {
  P buffer[kLanes * F];
  for (int l = 0; l < kLanes; ++l) std::memcpy(buffer + l * F, base + int64_t(idx[l]) * F, F * sizeof(P));
  for (int v = 0; v < F; ++v) rows[v] = load(buffer + v * kLanes);
}

#if defined(__AVX512F__)
template <>
NF_HD void gather_rows<half, 2>(const half* base, vu idx, vf (&rows)[2]) {
  const __m512i pairs = _mm512_i32gather_epi32((__m512i)idx, base, 4);
  rows[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(pairs));
  rows[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(pairs, 1));
}
template <>
NF_HD void gather_rows<float, 2>(const float* base, vu idx, vf (&rows)[2]) {
  rows[0] = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_castsi512_si256((__m512i)idx), base, 8));
  rows[1] = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_extracti64x4_epi64((__m512i)idx, 1), base, 8));
}
#elif defined(__AVX2__)
template <>
NF_HD void gather_rows<half, 2>(const half* base, vu idx, vf (&rows)[2]) {
  const __m256i pairs = _mm256_i32gather_epi32(reinterpret_cast<const int*>(base), (__m256i)idx, 4);
  rows[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(pairs));
  rows[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(pairs, 1));
}
template <>
NF_HD void gather_rows<float, 2>(const float* base, vu idx, vf (&rows)[2]) {
  const double* pairs = reinterpret_cast<const double*>(base);
  rows[0] = _mm256_castpd_ps(_mm256_i32gather_pd(pairs, _mm256_castsi256_si128((__m256i)idx), 8));
  rows[1] = _mm256_castpd_ps(_mm256_i32gather_pd(pairs, _mm256_extracti128_si256((__m256i)idx, 1), 8));
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
