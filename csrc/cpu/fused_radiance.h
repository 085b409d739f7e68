// SPDX-License-Identifier: Apache-2.0
// Radiance field of a grid encoding, a density MLP, spherical harmonics and a colour MLP (Mueller et al. 2022),
// evaluated tile by tile: marching, encoding, both networks, compositing, the loss and everything backward stay in the
// caches of one core. The same numbers as march -> hash_grid -> fused_mlp -> trunc_exp -> spherical_harmonics ->
// fused_mlp -> composite up to the order of sums; tests/ops/test_fused_radiance.py states the bound.
// Rays and samples are in unit space (neurfield's normalised scene). Results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/adam.h"
#include "ops/fused_render.h"

namespace nf::cpu {

// Products in bf16 need a machine with them, ReLU hidden layers and widths that are multiples of 32.
bool fused_bf16_supported(const FusedNet& density, const FusedNet& color);

// ---- training ----

// Loss: with d the difference of a pixel's colour over its background to its target, the sum over pixels and channels
// of
//   L2 (huber_delta = inf): d^2;   Huber: d^2 up to |d| = delta, then delta (2 |d| - delta)
// times loss_scale, plus per ray entropy_scale * (-O ln O), distortion_scale * distortion (math/composite.h) and, where
// the distance is known, its weight * depth error (cpu/depth_error.h).
struct FusedLoss {
  float huber_delta, loss_scale, entropy_scale, distortion_scale;
};

// The colour of a pixel is the mean of the `n_rays` consecutive rays that it has.
struct FusedTargets {
  const float* rgb;         // [n / n_rays, 3], over the background
  const float* background;  // [n / n_rays, 3]
  const float* distances;   // [n, 2], of what each ray hits, and the weight of its error, 0: not known; or null
  int n_rays;               // per pixel, at most kMaxRaysPerPixel
};
constexpr int kMaxRaysPerPixel = 64;

// Samples kept for the update of the table lie in kFusedSlots ranges of `capacity / kFusedSlots` rows each; a slot is a
// run of pixels, their rays are handled in order by one thread. Pixels that find their slot full are dropped, their
// rays counted.
constexpr int kFusedSlots = 16;

struct FusedSamples {
  float* positions;      // [3, capacity], in the unit cube of the field
  float* dL_dencoding;   // [n_levels, capacity, n_features_per_level]
  int64_t* slot_counts;  // [kFusedSlots]
  int64_t capacity;
};

struct FusedRayOutputs {  // per ray, each may be null
  float *rgb, *depth, *acc;
};

struct FusedReport {
  double loss;
  double squared_error;  // sum over pixels and channels of d^2
  int64_t n_rays_used;   // not dropped
  int64_t n_samples;     // kept: in front of or at the first opaque one
  int64_t n_evaluated;   // density evaluations, with those behind a surface
  bool is_finite;        // loss and all gradients
};

int64_t fused_scratch_bytes(const FusedField& field, const FusedMarch& march);

// Loss and gradients of the networks ([n params] each) and of the encoding's output, into `samples`. `scratch`
// [n_threads, scratch_bytes], `slot_gradients` [kFusedSlots, fused_gradient_size] need no initialisation.
FusedReport fused_gradients(const FusedField& field, const FusedMarch& march, const FusedRays& rays,
                            const FusedTargets& targets, const FusedLoss& loss, float samples_per_ray,
                            const FusedSamples& samples, float* dL_ddensity, float* dL_dcolor,
                            const FusedRayOutputs& outputs, float* slot_gradients, std::byte* scratch,
                            int64_t scratch_bytes);
int64_t fused_gradient_size(const FusedField& field);

// What follows for the table: its whole gradient, or an Adam step level by level in a buffer per thread
// [n_threads, largest level's entries * F] that is zero on entry and on return.
void fused_table_gradient(const GridConfig& grid, const FusedSamples& samples, float* dL_dtable);
void fused_table_adam(const GridConfig& grid, const FusedSamples& samples, const AdamConfig& adam, int64_t step,
                      const AdamArrays<float>& arrays, float* grad_scratch);

}  // namespace nf::cpu
