// SPDX-License-Identifier: Apache-2.0
// The grid encoding of a run of samples in one level, in SIMD: building blocks of the operator and of the fused
// kernels. Positions come as one array per axis. Blocks of 128 samples pass through two stages: indices with prefetches
// one block ahead, then interpolation or scatter (hash_grid_scatter.h); without the prefetch, levels beyond L2 are 2 to
// 5 times slower. Work level by level with at least 300 samples a call; the more, the longer a level's table stays in
// cache. Cells and indices equal those of math/hash_grid.h bit for bit; interpolation rounds as nested lerps.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "core/bf16.h"
#include "core/gather.h"
#include "core/simd.h"
#include "math/hash_grid.h"

namespace nf::cpu {

namespace detail {

constexpr int64_t kPrefetchBytes = 640 * 1024;  // tables below stay in L2, where prefetching only costs

NF_HD vf smoothstep(vf f) { return f * f * (3.0f - 2.0f * f); }

template <int... L>
NF_HD vu shift_in(vu before, vu v, std::integer_sequence<int, L...>) {
  return __builtin_shufflevector(before, v, (kLanes - 1 + L)...);
}
// v with every lane moved up by one, the last one of `before` in the first.
NF_HD vu shift_in(vu before, vu v) { return shift_in(before, v, std::make_integer_sequence<int, kLanes>()); }

// Where up to kSize samples lie in a level.
template <int D>
struct GridBlock {
  static constexpr int kSize = 128;
  uint32_t indices[1 << D][kSize];  // of the corners
  float upper[D][kSize];            // interpolation weight of the upper vertex on each axis
  int32_t goes_on[kSize];           // other than 0: the cell is that of the sample before, in this block

  // Finds the n samples of x. Rows of `row_bytes` at `rows` are prefetched when that is not null. One function for all
  // kinds of rows: as a part of each kernel it would be half of their code.
  __attribute__((noinline)) void prepare(const GridLevel& level, Interpolation interpolation,
                                         std::array<const float*, D> x, int n, const char* rows, int64_t row_bytes) {
    float padded[D][kSize];
    for (int d = 0; n < kSize && d < D; ++d) {
      std::fill(std::copy_n(x[d], n, padded[d]), padded[d] + kSize, 0.0f);
      x[d] = padded[d];
    }
    const auto run = [&](auto corners) {
      if (level.hashed)
        find<true, corners>(level, interpolation, x, n, rows, row_bytes);
      else
        find<false, corners>(level, interpolation, x, n, rows, row_bytes);
    };
    if (interpolation == Interpolation::kNearest)
      run(std::integral_constant<int, 1>());
    else
      run(std::integral_constant<int, 1 << D>());
  }

 private:
  template <bool kHashed, int kCorners>  // x: whole vectors
  void find(const GridLevel& level, Interpolation interpolation, const std::array<const float*, D>& x, int n,
            const char* rows, int64_t row_bytes) {
    const auto rows_per_line = static_cast<uint32_t>(64 / row_bytes);
    uint32_t lines[(1 << D) * kSize + kLanes];  // a row in each line that is prefetched
    int n_lines = 0;
    vu before[D];
    for (int j = 0; j < n; j += kLanes) {
      vu products[D];
      for (int d = 0; d < D; ++d) {
        const vf position = fma(splat(level.scale), load(x[d] + j), splat(0.5f));
        const vf f = position - floor_of(position);
        products[d] = (vu)floor_to_int(position) * level.factors[d];
        store(upper[d] + j, interpolation == Interpolation::kLinear       ? f
                            : interpolation == Interpolation::kSmoothstep ? smoothstep(f)
                                                                          : f - f);  // 0, or NaN where x is not finite
      }
      vi same = splat(-1);
      for (int d = 0; d < D; ++d) {
        if (j == 0) before[d] = vu{} + ~products[d][0];  // another
        same &= (vi)(products[d] == shift_in(before[d], products[d]));
        before[d] = products[d];
      }
      store(goes_on + j, same);
#pragma GCC unroll 16
      for (int k = 0; k < kCorners; ++k) {
        const vu at = index<kHashed>(level, products, k);
        store(indices[k] + j, at);
        if (!rows) continue;
        // the neighbour along the first axis mostly lies in the same line
        const vi elsewhere = k % 2 ? (vi)((at ^ load(indices[k - 1] + j)) >= rows_per_line) & ~same : ~same;
        n_lines += store_where(lines + n_lines, elsewhere, at);
      }
    }
    // into the second cache: the lines of two blocks do not fit the first
    for (int i = 0; i < n_lines; ++i) __builtin_prefetch(rows + lines[i] * row_bytes, 0, 2);
  }

  template <bool kHashed>
  NF_HD static vu index(const GridLevel& level, const vu (&products)[D], int corner) {
    vu index{};
    for (int d = 0; d < D; ++d) {
      const vu product = corner >> d & 1 ? products[d] + level.factors[d] : products[d];
      index = kHashed ? index ^ product : index + product;
    }
    if (kHashed || level.mask != 0) return index & level.mask;
    // vertices past the end of a dense level lie less than a level further
    index = (vu)select((vi)(index >= level.n_entries), (vi)(index - level.n_entries), (vi)index);
    if (any((vi)(index >= level.n_entries)))
      for (int l = 0; l < kLanes; ++l) index[l] = index[l] % level.n_entries;
    return index;
  }
};

// Calls use(level_idx, block, begin, n) for all samples of one level after the other, each block prepared while the one
// before is used. `table` holds the rows of these levels in order.
template <int D, typename Use>
NF_HD void for_blocks(const GridLevel* levels, int n_levels, Interpolation interpolation, const float* const* x,
                      int64_t n, const void* table, int64_t row_bytes, const Use& use) {
  constexpr int kSize = GridBlock<D>::kSize;
  GridBlock<D> blocks[2];
  const auto prepare = [&](GridBlock<D>& block, const GridLevel& level, int64_t begin) {
    const char* rows = static_cast<const char*>(table) + (level.offset - levels->offset) * row_bytes;
    if (level.n_entries * row_bytes <= kPrefetchBytes) rows = nullptr;
    std::array<const float*, D> here;
    for (int d = 0; d < D; ++d) here[d] = x[d] + begin;
    block.prepare(level, interpolation, here, static_cast<int>(std::min<int64_t>(kSize, n - begin)), rows, row_bytes);
  };
  if (n > 0) prepare(blocks[0], levels[0], 0);
  for (int l = 0, turn = 0; l < n_levels; ++l)
    for (int64_t begin = 0; begin < n; begin += kSize, turn ^= 1) {
      if (begin + kSize < n)
        prepare(blocks[turn ^ 1], levels[l], begin + kSize);
      else if (l + 1 < n_levels)
        prepare(blocks[turn ^ 1], levels[l + 1], 0);
      use(l, blocks[turn], begin, static_cast<int>(std::min<int64_t>(kSize, n - begin)));
    }
}

// Features of `corner` and of all corners above it on the axes below kAxes, interpolated along those axes. Depth
// first, so that few vectors are alive. lo + w (hi - lo) reproduces constants exactly.
template <int kAxes, typename P, int D, int F>
NF_HD void interpolate(const P* table, const GridBlock<D>& block, int j, const vf (&upper)[D][F], int corner,
                       vf (&out)[F]) {
  if constexpr (kAxes == 0) {
    gather_rows<P, F>(table, block.indices[corner] + j, out);
  } else {
    vf hi[F];
    interpolate<kAxes - 1>(table, block, j, upper, corner, out);
    interpolate<kAxes - 1>(table, block, j, upper, corner | 1 << (kAxes - 1), hi);
    for (int v = 0; v < F; ++v) out[v] = madd(upper[kAxes - 1][v], hi[v] - out[v], out[v]);
  }
}

template <typename P, int D, int F>
NF_HD void encode_vector(Interpolation interpolation, const P* table, const GridBlock<D>& block, int j, vf (&out)[F]) {
  vf upper[D][F];
  for (int d = 0; d < D; ++d) spread<F>(load(block.upper[d] + j), upper[d]);
  if (interpolation != Interpolation::kNearest) return interpolate<D>(table, block, j, upper, 0, out);
  gather_rows<P, F>(table, block.indices[0] + j, out);
  for (int d = 0; d < D; ++d)
    for (int v = 0; v < F; ++v) out[v] += upper[d][v];
}

template <int F, typename Out>
NF_HD void store_rows(const vf (&rows)[F], int n_rows, Out* out, int64_t out_stride) {
  if (out_stride == F && n_rows == kLanes) {
    for (int v = 0; v < F; ++v) store(out + v * kLanes, rows[v]);
    return;
  }
  Out buffer[kLanes * F];
  for (int v = 0; v < F; ++v) store(buffer + v * kLanes, rows[v]);
  for (int l = 0; l < n_rows; ++l) std::memcpy(out + l * out_stride, buffer + l * F, F * sizeof(Out));
}

}  // namespace detail

// out[l * level_stride + i * sample_stride + f] = feature f of sample i in level l, i < n. `table` holds the rows [F]
// of these levels in order, half or float; x[d] [n]. Out: float or bf16.
template <typename P, int D, int F, typename Out>
void encode_levels(const GridLevel* levels, int n_levels, Interpolation interpolation, const P* table,
                   const float* const* x, int64_t n, Out* out, int64_t level_stride, int64_t sample_stride) {
  const auto use = [&](int l, const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    const P* rows_of_level = table + (levels[l].offset - levels->offset) * F;
    Out* to = out + l * level_stride + begin * sample_stride;
    for (int j = 0; j < n_block; j += kLanes, to += kLanes * sample_stride) {
      vf rows[F];
      detail::encode_vector<P, D, F>(interpolation, rows_of_level, block, j, rows);
      detail::store_rows<F>(rows, std::min(kLanes, n_block - j), to, sample_stride);
    }
  };
  detail::for_blocks<D>(levels, n_levels, interpolation, x, n, table, F * sizeof(P), use);
}

}  // namespace nf::cpu
