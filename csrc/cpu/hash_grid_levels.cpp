// SPDX-License-Identifier: Apache-2.0
#include "cpu/hash_grid.h"

namespace nf::cpu {

std::vector<GridLevel> hash_grid_levels(const GridConfig& config) {
  std::vector<GridLevel> levels;
  int64_t offset = 0;
  for (int l = 0; l < config.n_levels; ++l) {
    levels.push_back(grid_level(config, l, offset));
    offset += levels.back().n_entries;
  }
  return levels;
}

}  // namespace nf::cpu
