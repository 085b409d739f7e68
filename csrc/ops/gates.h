// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/gates.h"

namespace nf::NF_BACKEND {

// y [n, n_blocks] of x [n, n_dims], counts [n_nodes, n_blocks], factors [n_blocks]
template <typename T>
void gates_forward(const ModulationGrid& grid, const T* x, const uint8_t* counts, const T* factors, int n_blocks,
                   int64_t n, T* y);

}  // namespace nf::NF_BACKEND
