// SPDX-License-Identifier: Apache-2.0
// The grid encoding at the positions of a warp's lanes, one level at a time.
#pragma once

#include <cstring>

#include "cuda/launch.h"
#include "cuda/warp.h"
#include "math/hash_grid.h"

namespace nf::cuda {

// grid_forward, the same sums in the same order, for all lanes of a warp, which must all come here. What is waited for
// are the lines of 128 bytes that the first-level cache looks up, and corners that are neighbours on the first axis
// mostly lie in one, hashed or not, as the first factor of the hash is 1: two lanes load one sample's two corners by
// one instruction, then the other's, and exchange what they have loaded.
template <typename T, int D, int F, typename P>
NF_DEVICE void grid_forward_by_warp(const GridLevel& level, Interpolation interpolation, const P* table, const T* x,
                                    T* y) {
  constexpr int kWords = F * sizeof(P) / 4;  // of an entry
  constexpr bool kInPairs = F * sizeof(P) % 4 == 0 && kWords <= 4;
  if (!kInPairs || interpolation == Interpolation::kNearest)
    return grid_forward<T, D, F>(level, interpolation, table, x, y);
  if constexpr (kInPairs) {
    const GridCell<T, D> cell(level, interpolation, x);
    NF_UNROLL for (int f = 0; f < F; ++f) y[f] = 0;
    constexpr int kCorners = nf::min(1 << D, nf::max(2, 16 / kWords));  // under way at a time, in 16 registers
    NF_UNROLL for (int first = 0; first < cell.kMaxCorners; first += kCorners) {
      uint32_t words[kCorners][kWords];
      NF_UNROLL for (int c = 0; c < kCorners; ++c) words[c][0] = cell.index(level, first + c);
      NF_UNROLL for (int c = 0; c < kCorners; c += 2) transpose_in_pairs(words[c][0], words[c + 1][0]);
      NF_UNROLL for (int c = 0; c < kCorners; ++c)
          load_values<kWords>(reinterpret_cast<const uint32_t*>(table + int64_t(words[c][0]) * F), words[c]);
      NF_UNROLL for (int c = 0; c < kCorners; c += 2) NF_UNROLL for (int w = 0; w < kWords; ++w)
          transpose_in_pairs(words[c][w], words[c + 1][w]);
      NF_UNROLL for (int c = 0; c < kCorners; ++c) {
        P entry[F];
        memcpy(entry, words[c], sizeof(entry));
        const T weight = cell.weight(first + c);
        NF_UNROLL for (int f = 0; f < F; ++f) y[f] = madd(weight, T(to_float(entry[f])), y[f]);
      }
    }
  }
}

}  // namespace nf::cuda
