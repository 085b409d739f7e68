// SPDX-License-Identifier: Apache-2.0
// Evaluation without gradients of a radiance field of a grid encoding, a density MLP, spherical harmonics and a colour
// MLP (Mueller et al. 2022): images, and density for occupancy grids and meshes. Rays and samples are in unit space
// (neurfield's normalised scene).
#pragma once

#include <cstddef>
#include <cstdint>

#include "math/activation.h"
#include "math/hash_grid.h"
#include "math/march.h"
#include "math/surface_density.h"

namespace nf::NF_BACKEND {

// One MLP without biases; params in the tiny-cuda-nn layout: matrices [out_padded, in_padded], row-major.
struct FusedNet {
  const float* params;
  int n_inputs, n_outputs, width, n_hidden;
  Activation activation, output_activation;
  float input_padding;  // value of the input columns past n_inputs
};

// density: encoding -> outputs, of which the first is ln(sigma), or gives the distance to `surface` (CPU only); color:
// all those outputs, then the harmonics of the direction -> rgb.
struct FusedField {
  GridConfig grid;
  const void* table;  // [n_entries, n_features_per_level], half or float
  bool table_is_half;
  float box_low[3], box_scale[3];  // x_field = (x_unit - box_low) * box_scale
  FusedNet density, color;
  SurfaceDensity surface;
  int sh_degree;
  // CPU: inputs, weights and gradients of the networks' products are rounded to bf16 and summed in float. Only where
  // fused_bf16_supported says so.
  bool bf16_products;
};

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

// Per ray, over black: colour [n, 3]; depth, the sum of w t (not divided by acc); the t of the sample behind which less
// than half of the light comes (+inf: none); opacity. The colour of samples of weight below skip_weight is not
// evaluated and counts as black: an error of at most the sum of those weights.
struct FusedImage {
  float *rgb, *depth, *median_depth, *acc;
};
// Bytes of scratch of each thread of the pool; on CUDA in all, at an address that is a multiple of 16.
int64_t fused_render_scratch_bytes(const FusedField& field, const FusedMarch& march);
void fused_render(const FusedField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                  const FusedImage& image, std::byte* scratch, int64_t scratch_bytes);

// sigma [n] at positions [n, 3] in unit space.
void fused_density(const FusedField& field, const float* positions, int64_t n, float* sigma, std::byte* scratch,
                   int64_t scratch_bytes);

#ifdef NF_CUDA
// Shared memory that a thread block of fused_render asks for; fused_density asks for less.
int64_t fused_render_shared_bytes(const FusedField& field);
#endif

}  // namespace nf::NF_BACKEND
