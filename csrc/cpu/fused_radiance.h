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
#include "math/activation.h"
#include "math/hash_grid.h"
#include "math/march.h"

namespace nf::cpu {

// One MLP without biases; params in the tiny-cuda-nn layout: matrices [out_padded, in_padded], row-major.
struct FusedNet {
  const float* params;
  int n_inputs, n_outputs, width, n_hidden;
  Activation activation, output_activation;
  float input_padding;  // value of the input columns past n_inputs
};

// density: encoding -> outputs, of which the first is ln(sigma); color: all those outputs, then the harmonics of the
// direction -> rgb.
struct FusedField {
  GridConfig grid;
  const void* table;  // [n_entries, n_features_per_level], half or float
  bool table_is_half;
  float box_low[3], box_scale[3];  // x_field = (x_unit - box_low) * box_scale
  FusedNet density, color;
  int sh_degree;
  // Inputs, weights and gradients of the networks' products are rounded to bf16 and summed in float. Only where
  // fused_bf16_supported says so.
  bool bf16_products;
};

// Products in bf16 need a machine with them, ReLU hidden layers and widths that are multiples of 32.
bool fused_bf16_supported(const FusedNet& density, const FusedNet& color);

// Samples of a ray: the lattice of math/march.h from `near` on. A ray ends behind the sample that brings its
// transmittance below stop_trans, or after max_samples.
struct FusedMarch {
  OccupancyView grid;
  StepLattice lattice;
  float near, far;
  float stop_trans;
  int max_samples;
  bool jitter;  // start at a random fraction of a step, as march_jitter(jitter_stream, ray) says
  uint64_t jitter_stream;
};

struct FusedRays {
  const float* origins;     // [n, 3]
  const float* directions;  // [n, 3], unit length
  int64_t n;
};

// ---- training ----

// Loss: with d the difference of a pixel's colour over its background to its target, the sum over pixels and channels
// of
//   L2 (huber_delta = inf): d^2;   Huber: d^2 up to |d| = delta, then delta (2 |d| - delta)
// times loss_scale, plus per ray entropy_scale * (-O ln O) and distortion_scale * distortion (math/composite.h).
struct FusedLoss {
  float huber_delta, loss_scale, entropy_scale, distortion_scale;
};

// The colour of a pixel is the mean of the `n_rays` consecutive rays that it has.
struct FusedTargets {
  const float* rgb;         // [n / n_rays, 3], over the background
  const float* background;  // [n / n_rays, 3]
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

// ---- evaluation ----

// Per ray, over black: colour [n, 3]; depth, the sum of w t (not divided by acc); the t of the sample behind which less
// than half of the light comes (+inf: none); opacity. The colour of samples of weight below skip_weight is not
// evaluated and counts as black: an error of at most the sum of those weights.
struct FusedImage {
  float *rgb, *depth, *median_depth, *acc;
};
int64_t fused_render_scratch_bytes(const FusedField& field, const FusedMarch& march);
void fused_render(const FusedField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                  const FusedImage& image, std::byte* scratch, int64_t scratch_bytes);

// sigma [n] at positions [n, 3] in unit space.
void fused_density(const FusedField& field, const float* positions, int64_t n, float* sigma, std::byte* scratch,
                   int64_t scratch_bytes);

}  // namespace nf::cpu
