// SPDX-License-Identifier: Apache-2.0
// The samples of rays through a KiloNeRF that have any weight: those that a training step learns from. Rays advance in
// rounds of a few samples and end where they are opaque, so what lies behind a surface is not even marched.
#pragma once

#include "ops/kilo_render.h"
#include "ops/march.h"

namespace nf::cpu {

// As march gives them, without samples whose density is zero and those behind the one that takes the transmittance
// below march.stop_trans. A density that is not a number is kept. The same for any number of threads.
void kilo_visible(const KiloField& field, const FusedMarch& march, const FusedRays& rays, const PackedOutput& out);

}  // namespace nf::cpu
