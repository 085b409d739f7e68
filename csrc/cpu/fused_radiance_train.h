// SPDX-License-Identifier: Apache-2.0
// Training on one chunk of rays within the caches of a core: colour, compositing, the loss, and everything backward
// down to the gradient at the output of the encoding.
#pragma once

#include "cpu/fused_radiance_tile.h"
#include "math/composite.h"

namespace nf::cpu {

// Sums of one slot; ordered addition of slots gives the same numbers for any number of threads.
struct SlotSums {
  double loss = 0, squared_error = 0;
  int64_t n_rays_used = 0, n_samples = 0, n_evaluated = 0;
  float not_finite = 0;  // 0 while every gradient was finite, else NaN
};

// Derivatives of the loss by what one ray gives.
struct RayLoss {
  float dL_drgb[3];        // by the composited colour
  float dL_dacc;           // by the opacity, with the part that comes through the background
  float distortion;        // by the distortion
  float agreement;         // by the sum of weight * agreement
  float inverse_distance;  // 1 / the known distance of the ray, where `agreement` is not 0
};

// What one ray gives.
struct RayForward {
  CompositeForward<float> light;
  DistortionForward<float> distortion;
  float agreement = 0;  // sum of weight * agreement
};

template <typename A>
class TrainTile {
 public:
  TrainTile(const PackedField& field, const FusedMarch& march, Arena& arena);

  // Trains on rays [begin, end) in chunks; their samples go to rows [first_row, first_row + max_rows) of `samples`,
  // whose number is returned. `gradients`: the density net's block, then the colour net's; added to.
  int64_t run(const FusedRays& rays, int64_t begin, int64_t end, const FusedTargets& targets, const FusedLoss& loss,
              float samples_per_ray, const FusedSamples& samples, int64_t first_row, int64_t max_rows,
              const FusedRayOutputs& outputs, float* gradients, SlotSums& sums);

 private:
  bool forward(const FusedRays& rays, int64_t begin, int n, int rays_per_pixel, double samples_per_ray,
               int64_t max_rows);
  void shade(const FusedRays& rays, int64_t begin);
  void order_samples();
  void composite(int64_t begin, const FusedTargets& targets, const FusedLoss& loss, const FusedRayOutputs& outputs,
                 SlotSums& sums);
  RayForward composite_ray(int r, bool with_distortion, float inverse_distance) const;
  void composite_backward(const RayForward& ray, const RayLoss& g, const int32_t* rows, const int32_t* rows_end);
  void backward(const FusedSamples& samples, int64_t first_row, float* gradients, SlotSums& sums);
  void backward_block(int64_t row, int64_t n, float* gradients);
  void store_block(const FusedSamples& samples, int64_t first_row, int64_t n, SlotSums& sums);

  const PackedField& field_;
  const FusedMarch& march_;
  RayTile<A> tile_;
  // rays
  float* harmonics_;  // [kMaxChunkRays, direction_width]
  float* side_;       // [kMaxChunkRays, colour width]: product of the harmonics with the first colour matrix
  float* dL_dside_;
  int32_t *first_, *order_;  // samples of ray r, front to back: rows order_[first_[r] ... first_[r + 1])
  // rows
  NetRows<A> color_hidden_;
  float *rgb_, *dL_drgb_;  // [capacity, 4], the last column is unused
  float* dL_dtau_;         // [capacity]
  // one block
  BackwardBlock<A> block_;
  A* geometry_;  // [kBlockRows, geometry_width] as the colour net reads it; unused for float
  float *dL_dgeometry_, *dL_dencoding_;
};

}  // namespace nf::cpu
