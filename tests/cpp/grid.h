// SPDX-License-Identifier: Apache-2.0
// Occupancy grids for tests, in memory that ends where the bits end.
#pragma once

#include "check.h"
#include "ops/occupancy.h"

namespace nf::test {

struct Grid {
  std::vector<uint8_t> bitfield, coarse;
  OccupancyView view;
};

// Clusters of 64 cells (a cube of 4^3), of which a share of about `share` / 2 holds occupied cells.
inline Grid make_grid(int n_cascades, int log2_resolution, float share) {
  const size_t cells = size_t(1) << 3 * log2_resolution;
  const std::vector<float> random = uniform(static_cast<int64_t>(n_cascades * cells), 0, 1, 1);
  std::vector<float> density(random.size());
  for (size_t i = 0; i < density.size(); ++i) density[i] = random[i / 64] < share ? random[i] : 0;
  Grid grid;
  grid.bitfield.resize(n_cascades * cells / 8);
  grid.coarse.resize(n_cascades * cells / 512);
  const float threshold = 0.5f;
  cpu::occupancy_bits(density.data(), &threshold, n_cascades, log2_resolution, grid.bitfield.data(),
                      grid.coarse.data());
  grid.view = {grid.bitfield.data(), grid.coarse.data(), n_cascades, log2_resolution};
  return grid;
}

}  // namespace nf::test
