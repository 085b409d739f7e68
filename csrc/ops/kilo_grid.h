// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/kilo_grid.h"

namespace nf::NF_BACKEND {

// network [n] and local coordinates [n, 3] of positions [n, 3].
template <typename T>
void kilo_locate(const KiloGrid<T>& grid, const T* x, int64_t n, int32_t* network, T* local);

}  // namespace nf::NF_BACKEND
