// SPDX-License-Identifier: Apache-2.0
// A KiloNeRF as Python hands it over.
#pragma once

#include <array>

#include "bindings/kilo_grid.h"
#include "ops/kilo_render.h"

namespace nf {

using KiloSizes = std::array<int32_t, 3>;  // width, position_frequencies, direction_frequencies

inline backend::KiloField kilo_field(const KiloSizes& shape, const Array<const float, 2>& params,
                                     const Array<const int32_t, 3>& cells, const KiloBox& box, float density_scale) {
  return {{shape[0], shape[1], shape[2]},
          params.data(),
          static_cast<int64_t>(params.shape(0)),
          kilo_grid<float>(cells, box),
          density_scale};
}

}  // namespace nf
