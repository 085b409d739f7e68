// SPDX-License-Identifier: Apache-2.0
// The grid of cells of a KiloNeRF (Reiser et al. 2021): which network a position belongs to, and where in its cell it
// lies.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"

namespace nf {

template <typename T>
struct KiloGrid {
  const int32_t* cells;  // [size z, y, x], a network or -1
  int32_t size[3];       // cells per axis
  T low[3], scale[3];    // place in cells = (x - low) * scale

  // Network of x, or -1 outside of the box and in cells without one; local coordinates, -1 ... 1 inside of the box.
  // Positions on the upper faces of the box belong to the last cells.
  NF_HD int32_t locate(const T* x, T* local) const {
    int64_t index = 0;
    bool inside = true;
    for (int axis = 2; axis >= 0; --axis) {
      const T place = (x[axis] - low[axis]) * scale[axis];
      const bool within = place >= 0 && place <= static_cast<T>(size[axis]);  // NaN is not, and has no integer
      const int32_t last = size[axis] - 1, beside = place > 0 ? last : 0;
      const int32_t cell = within ? min(static_cast<int32_t>(place), last) : beside;
      inside = inside && within;
      local[axis] = 2 * (place - static_cast<T>(cell)) - 1;
      index = index * size[axis] + cell;
    }
    return inside ? cells[index] : -1;
  }
};

}  // namespace nf
