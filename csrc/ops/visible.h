// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/visible.h"
#include "ops/composite.h"
#include "ops/march.h"

namespace nf::NF_BACKEND {

// The samples of each ray up to the last that has a weight, packed as march packs them (rays without room have none,
// the leading ones are kept), and zeros behind them up to the capacity. Colours are not read and may be null.
// out.counts: samples, rays without room now or before, and marched_counts[2]; marched_counts [3] are those of the
// march. `scratch` has visible_scratch_bytes, at an address that is a multiple of 8. A range that leaves the samples
// throws std::invalid_argument on the CPU; on CUDA, where only the device knows it, its ray has no samples.
void visible_samples(const PackedSamples<float>& samples, const int64_t* marched_counts, const PackedOutput& out,
                     void* scratch);
int64_t visible_scratch_bytes(int64_t n_rays);

}  // namespace nf::NF_BACKEND
