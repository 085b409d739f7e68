// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "math/modulation.h"

namespace nf {

// Nodes per axis; negative where the axis wraps.
using Resolution = std::vector<int>;
inline ModulationGrid modulation_grid(const Resolution& resolution) {
  ModulationGrid grid{static_cast<int>(resolution.size()), {}, {}};
  for (int a = 0; a < grid.n_dims; ++a) {
    grid.wraps[a] = resolution[a] < 0;
    grid.resolution[a] = grid.wraps[a] ? -resolution[a] : resolution[a];
  }
  return grid;
}

}  // namespace nf
