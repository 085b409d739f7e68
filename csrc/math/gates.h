// SPDX-License-Identifier: Apache-2.0
// Gates of progressive encodings (SAPE, Hertz et al. 2021). A coarse grid holds, per node and block of features, how
// many of the nodes in a box around it have opened the block; the gate of a sample is
//   g_b(x) = factor_b sum_nodes weight(node, x) count(node, b)
// with the multilinear weights of math/modulation.h. factor_b is 1 / (nodes of the box) for open blocks, less while one
// fades in, 0 for closed ones.
#pragma once

#include <cstdint>

#include "math/modulation.h"

namespace nf {

// Blocks up to the last one whose factor is not zero.
template <typename T>
NF_HD int n_open_blocks(const T* factors, int n_blocks) {
  while (n_blocks > 0 && factors[n_blocks - 1] == T(0)) --n_blocks;
  return n_blocks;
}

template <typename T, int D>
struct GateForward {
  ModulationGrid grid;
  const T* x;             // [n, n_dims]
  const uint8_t* counts;  // [n_nodes, n_blocks]
  const T* factors;       // [n_blocks]
  T* y;                   // [n, n_blocks]
  int n_blocks, n_open;   // of n_open_blocks
  NF_HD void operator()(int64_t i) const {
    const ModulationCell<T, D> cell(grid, x + i * D);
    T* out = y + i * n_blocks;
    for (int b = 0; b < n_blocks; ++b) out[b] = 0;
    NF_ROLL for (int k = 0; k < cell.kCorners; ++k) {
      const uint8_t* node = counts + cell.node(k) * n_blocks;
      const T w = cell.weight(k);
      for (int b = 0; b < n_open; ++b) out[b] = madd(w, T(node[b]), out[b]);
    }
    for (int b = 0; b < n_open; ++b) out[b] *= factors[b];
  }
};

}  // namespace nf
