// SPDX-License-Identifier: Apache-2.0
// Features of samples in two orders, those of one sample together (as networks read them) and those of one level
// together (as tables are read and written):
//   by_sample[i * row_stride + l * F + f]      by_level[l * level_stride + i * F + f]
#pragma once

#include <cstdint>
#include <cstring>

#include "core/simd.h"
#include "cpu/tile_memory.h"

namespace nf::cpu {

namespace detail {

constexpr int kPairs = kLanes / 2;  // of floats in a vector
typedef int64_t PairVector __attribute__((vector_size(kPairs * 8)));

// Exchanges the lanes of a with bit S of their number set for the lanes of b with it clear.
template <int S, int... L>
NF_HD void exchange(PairVector& a, PairVector& b, std::integer_sequence<int, L...>) {
  const PairVector low = __builtin_shufflevector(a, b, (L & S ? (L ^ S) + kPairs : L)...);
  b = __builtin_shufflevector(a, b, (L & S ? L + kPairs : L ^ S)...);
  a = low;
}

// Lane j of rows[i] changes places with lane i of rows[j].
template <int S = 1>
NF_HD void transpose(PairVector (&rows)[kPairs]) {
  if constexpr (S < kPairs) {
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i)
      if (!(i & S)) exchange<S>(rows[i], rows[i | S], std::make_integer_sequence<int, kPairs>());
    transpose<2 * S>(rows);
  }
}

// n_rows x n_columns pairs from one array to the other: source[i * from_stride + j] to target[j * to_stride + i].
// Strides count floats; `streams`: every vector of `target` is aligned, and is not read again soon.
inline void transpose_pairs(const float* source, int64_t from_stride, int64_t n_rows, int64_t n_columns, float* target,
                            int64_t to_stride, bool streams) {
  const int64_t whole_rows = n_rows / kPairs * kPairs, whole_columns = n_columns / kPairs * kPairs;
  const auto copy = [&](int64_t i, int64_t j) {
    std::memcpy(target + j * to_stride + 2 * i, source + i * from_stride + 2 * j, 2 * sizeof(float));
  };
  for (int64_t j = 0; j < whole_columns; j += kPairs)  // outside, so that lines of `target` are written at once
    for (int64_t i = 0; i < whole_rows; i += kPairs) {
      PairVector block[kPairs];
#pragma GCC unroll 8
      for (int r = 0; r < kPairs; ++r) std::memcpy(&block[r], source + (i + r) * from_stride + 2 * j, sizeof block[r]);
      transpose(block);
      float* to = target + j * to_stride + 2 * i;
#pragma GCC unroll 8
      for (int r = 0; r < kPairs; ++r, to += to_stride) {
        if (streams)
          stream(to, (vf)block[r]);
        else
          store(to, (vf)block[r]);
      }
    }
  for (int64_t i = 0; i < n_rows; ++i)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < n_columns; ++j) copy(i, j);
}

inline bool can_stream(const float* target, int64_t stride) { return is_line(target) && stride % kLanes == 0; }

}  // namespace detail

template <int F>
void levels_to_samples(const float* by_level, int64_t level_stride, int n_levels, int64_t n, float* by_sample,
                       int64_t row_stride) {
  if constexpr (F == 2) {
    detail::transpose_pairs(by_level, level_stride, n_levels, n, by_sample, row_stride,
                            detail::can_stream(by_sample, row_stride));
  } else {
    for (int64_t i = 0; i < n; ++i)
      for (int l = 0; l < n_levels; ++l)
        std::memcpy(by_sample + i * row_stride + l * F, by_level + l * level_stride + i * F, F * sizeof(float));
  }
}

template <int F>
void samples_to_levels(const float* by_sample, int64_t row_stride, int n_levels, int64_t n, float* by_level,
                       int64_t level_stride) {
  if constexpr (F == 2) {
    detail::transpose_pairs(by_sample, row_stride, n, n_levels, by_level, level_stride,
                            detail::can_stream(by_level, level_stride));
  } else {
    for (int l = 0; l < n_levels; ++l)
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(by_level + l * level_stride + i * F, by_sample + i * row_stride + l * F, F * sizeof(float));
  }
}

}  // namespace nf::cpu
