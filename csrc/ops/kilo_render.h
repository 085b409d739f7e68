// SPDX-License-Identifier: Apache-2.0
// Rays through a KiloNeRF: marched, their samples sorted by network, evaluated and composited close to where they are
// computed, round by round, so that what lies behind a surface is never evaluated. The same as march -> kilo_mlp ->
// composite up to rounding and the colours left out (see skip_weight).
#pragma once

#include "math/kilo_grid.h"
#include "math/kilo_mlp.h"
#include "ops/fused_render.h"

namespace nf::NF_BACKEND {

// sigma = density_scale * relu(z)
struct KiloField {
  KiloShape shape;
  const float* params;  // [n_networks, n_params]
  int64_t n_networks;
  KiloGrid<float> grid;  // its cells name networks below n_networks
  float density_scale;
};

// What the colours that a ray leaves out may weigh in all: half a step of an 8-bit picture, however many there are.
constexpr float kKiloSkipTotal = 1.0f / 512;

// Colour, depth and opacity as fused_render gives them. The colour of a sample that cannot have more weight than
// skip_weight need not be evaluated and counts as black then, until those of its ray would add up to more than
// kKiloSkipTotal. merged [n_networks, width^2 + width] is scratch: M and m of math/kilo_mlp.h.
void kilo_render(const KiloField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                 const FusedImage& image, float* merged);

}  // namespace nf::NF_BACKEND
