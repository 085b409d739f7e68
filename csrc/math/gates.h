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

template <typename T>
struct GateForward {
  ModulationGrid grid;
  const T* x;             // [n, n_dims]
  const uint8_t* counts;  // [n_nodes, n_blocks]
  const T* factors;       // [n_blocks]
  T* y;                   // [n, n_blocks]
  int n_blocks, n_open;   // factors from n_open on are zero
  NF_HD void operator()(int64_t i) const {
    const ModulationCell<T> cell(grid, x + i * grid.n_dims);
    T* out = y + i * n_blocks;
    for (int b = 0; b < n_blocks; ++b) out[b] = 0;
    for (int k = 0; k < cell.n_corners(); ++k) {
      const uint8_t* node = counts + cell.node(k) * n_blocks;
      const T w = cell.weight(k);
      for (int b = 0; b < n_open; ++b) out[b] = madd(w, T(node[b]), out[b]);
    }
    for (int b = 0; b < n_open; ++b) out[b] *= factors[b];
  }
};

}  // namespace nf
