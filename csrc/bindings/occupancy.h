// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bindings/common.h"
#include "math/occupancy.h"

namespace nf {

// bitfield [n_cascades, resolution^3 / 8], coarse [n_cascades, (resolution / 8)^3]
inline OccupancyView occupancy_view(const Array<const uint8_t, 2>& bitfield, const Array<const uint8_t, 2>& coarse) {
  const int log2_cells = __builtin_ctzll(bitfield.shape(1)) + 3;
  return {bitfield.data(), coarse.data(), static_cast<int32_t>(bitfield.shape(0)), log2_cells / 3};
}

}  // namespace nf
