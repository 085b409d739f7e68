// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "bindings/common.h"
#include "math/kilo_grid.h"

namespace nf {

using KiloBox = std::array<double, 6>;  // low x y z, scale x y z

template <typename T>
inline KiloGrid<T> kilo_grid(const Array<const int32_t, 3>& cells, const KiloBox& box) {
  KiloGrid<T> grid{cells.data(), {}, {}, {}};
  for (int axis = 0; axis < 3; ++axis) {
    grid.size[axis] = static_cast<int32_t>(cells.shape(2 - axis));
    grid.low[axis] = static_cast<T>(box[axis]);
    grid.scale[axis] = static_cast<T>(box[3 + axis]);
  }
  return grid;
}

}  // namespace nf
