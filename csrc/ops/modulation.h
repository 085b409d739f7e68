// SPDX-License-Identifier: Apache-2.0
// Lookups of modulation grids for many samples (math/modulation.h has the definitions). What a layer does with them is
// in cpu/modulated_rows.h.
#pragma once

#include <cstdint>

#include "math/modulation.h"

namespace nf::NF_BACKEND {

// y [n, n_channels] of x [n, n_dims], values [n_nodes, n_channels]
template <typename T>
void modulation_forward(const ModulationGrid& grid, const T* x, const T* values, int n_channels, int64_t n, T* y);

// dL_dvalues [n_nodes, n_channels] and dL_dx [n, n_dims] are written; either may be null. Gradients to the grid are
// summed on the CPU in at most 64 slots of consecutive samples (fewer for large grids) and the slots in order: the same
// numbers for every thread count; on CUDA by atomics in any order. `scratch` has modulation_scratch values.
template <typename T>
void modulation_backward(const ModulationGrid& grid, const T* x, const T* values, const T* dL_dy, int n_channels,
                         int64_t n, T* dL_dvalues, T* dL_dx, T* scratch);
int64_t modulation_scratch(const ModulationGrid& grid, int n_channels, int64_t n);

}  // namespace nf::NF_BACKEND
