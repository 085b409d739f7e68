// SPDX-License-Identifier: Apache-2.0
// The samples of rays through a KiloNeRF that have any weight: those that a training step learns from. Rays advance in
// rounds of a few samples and end where they are opaque, so what lies behind a surface is not even marched.
#pragma once

#include "ops/kilo_render.h"
#include "ops/march.h"

namespace nf::NF_BACKEND {

// As march gives them, without samples whose density is zero and those behind the one that takes the transmittance
// below march.stop_trans. A density that is not a number is kept. The same for any number of threads. Rows behind
// the samples are zero where it is_padded, else not written. `scratch` has kilo_visible_scratch_bytes, at an address
// that is a multiple of 8.
void kilo_visible(const KiloField& field, const FusedMarch& march, const FusedRays& rays, const PackedOutput& out,
                  bool is_padded, void* scratch);
int64_t kilo_visible_scratch_bytes(int64_t n_rays, int max_samples);

}  // namespace nf::NF_BACKEND
