// SPDX-License-Identifier: Apache-2.0
// The gradient of the grid encoding with respect to positions, and the gradients of that gradient. What belongs to a
// sample is summed by its thread, level after level, as on the CPU; what belongs to the table is added atomically.
#include "cuda/hash_grid_kernels.h"

namespace nf::cuda {
namespace {

template <typename T, typename P, int D, int F>
__global__ void __launch_bounds__(kBlock)
    input_kernel(const __grid_constant__ LevelBatch batch, const GridSamples<T> samples, const P* params,
                 const T* dL_dy, T* dL_dx) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (i >= samples.n) return;
  T x[D], sum[D];
  samples.position(i, x);
  NF_UNROLL for (int d = 0; d < D; ++d) sum[d] = batch.first > 0 ? dL_dx[i * D + d] : T(0);
#pragma unroll 1
  for (int l = 0; l < batch.n; ++l) {
    if (samples.hides(batch, l, i)) continue;
    T gradient[F];
    load_values<F>(dL_dy + (i * batch.n_levels + batch.first + l) * F, gradient);
    grid_backward_input<T, D, F>(batch.levels[l], samples.interpolation, params + batch.levels[l].offset * F, x,
                                 gradient, sum);
  }
  NF_UNROLL for (int d = 0; d < D; ++d) dL_dx[i * D + d] = sum[d];
}

template <typename T, typename P, int D, int F>
__global__ void __launch_bounds__(kBlock)
    second_order_kernel(const __grid_constant__ LevelBatch batch, const GridSamples<T> samples, const P* params,
                        const T* dL_dy, const T* v, T* dH_dparams, T* dH_ddL_dy, T* dH_dx) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (i >= samples.n) return;
  T x[D], direction[D], sum[D];
  samples.position(i, x);
  NF_UNROLL for (int d = 0; d < D; ++d) {
    direction[d] = v[i * D + d];
    sum[d] = batch.first > 0 && dH_dx ? dH_dx[i * D + d] : T(0);
  }
#pragma unroll 1
  for (int l = 0; l < batch.n; ++l) {
    const int64_t at = (i * batch.n_levels + batch.first + l) * F;
    T gradient[F], features[F] = {};
    load_values<F>(dL_dy + at, gradient);
    if (!samples.hides(batch, l, i))
      grid_backward_backward_input<T, D, F>(
          batch.levels[l], samples.interpolation, params + batch.levels[l].offset * F, x, gradient, direction,
          dH_dparams ? dH_dparams + batch.levels[l].offset * F : nullptr, features, sum, AddAtomically());
    if (dH_ddL_dy) store_values<F>(dH_ddL_dy + at, features);
  }
  if (dH_dx) NF_UNROLL
  for (int d = 0; d < D; ++d) dH_dx[i * D + d] = sum[d];
}

}  // namespace

template <typename T, typename P>
void hash_grid_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy, MaxLevel max_level,
                              T* dL_dx, int64_t n) {
  dispatch_grid(config, [&](auto D, auto F) {
    for_batches(config, [&](const LevelBatch& batch) {
      launch("hash_grid_backward_input", input_kernel<T, P, D, F>, Grid{blocks_for(n)}, batch,
             GridSamples<T>{config.interpolation, x, max_level, n}, params, dL_dy, dL_dx);
    });
  });
}

template <typename T, typename P>
void hash_grid_backward_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy,
                                       const T* v, MaxLevel max_level, T* dH_dparams, T* dH_ddL_dy, T* dH_dx,
                                       int64_t n) {
  if (dH_dparams) {
    const GridLevel last = hash_grid_levels(config).back();
    fill_zero(dH_dparams, (last.offset + last.n_entries) * config.n_features_per_level);
  }
  dispatch_grid(config, [&](auto D, auto F) {
    for_batches(config, [&](const LevelBatch& batch) {
      launch("hash_grid_backward_backward_input", second_order_kernel<T, P, D, F>, Grid{blocks_for(n)}, batch,
             GridSamples<T>{config.interpolation, x, max_level, n}, params, dL_dy, v, dH_dparams, dH_ddL_dy, dH_dx);
    });
  });
}

#define NF_INSTANTIATE(T, P)                                                                                           \
  template void hash_grid_backward_input(const GridConfig&, const T*, const P*, const T*, MaxLevel, T*, int64_t);      \
  template void hash_grid_backward_backward_input(const GridConfig&, const T*, const P*, const T*, const T*, MaxLevel, \
                                                  T*, T*, T*, int64_t);
NF_INSTANTIATE(float, float)
NF_INSTANTIATE(float, half)
NF_INSTANTIATE(double, double)

}  // namespace nf::cuda
