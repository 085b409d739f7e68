// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bindings/common.h"
#include "math/occupancy.h"

namespace nf {

// Of a grid with this many cells per cascade.
inline int32_t log2_resolution(size_t cells) { return __builtin_ctzll(cells) / 3; }

// bitfield [n_cascades, resolution^3 / 8], coarse [n_cascades, (resolution / 8)^3]
inline OccupancyView occupancy_view(const Array<const uint8_t, 2>& bitfield, const Array<const uint8_t, 2>& coarse) {
  return {bitfield.data(), coarse.data(), static_cast<int32_t>(bitfield.shape(0)),
          log2_resolution(8 * bitfield.shape(1))};
}

}  // namespace nf
