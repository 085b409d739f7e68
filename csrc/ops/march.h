// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/march.h"

namespace nf::NF_BACKEND {

struct MarchSettings {
  float near, far;
  int32_t max_samples;  // per ray
  bool jitter;
  uint64_t stream;  // of the jitter
};

struct PackedOutput {
  int64_t capacity;
  int64_t* packed_info;  // [n_rays, 2] start, count
  int64_t* ray_indices;  // [capacity]
  float* t_starts;       // [capacity]
  float* t_ends;         // [capacity]
  int64_t* counts;       // [3] samples written, rays dropped for lack of capacity, samples of all rays
};

// The samples of all rays, packed in the order of the rays. A ray whose samples would end beyond the capacity is
// dropped whole, so the kept ones are the leading rays. The same result for any number of threads, and on every device.
// Rows behind them are zero where it is_padded, else not written. `scratch` has march_scratch_bytes.
void march(const OccupancyView& grid, const StepLattice& lattice, const MarchSettings& settings, const float* origins,
           const float* directions, int64_t n_rays, const PackedOutput& out, bool is_padded, void* scratch);
int64_t march_scratch_bytes(int64_t n_rays);

}  // namespace nf::NF_BACKEND
