// SPDX-License-Identifier: Apache-2.0
// One warp per ray, 32 samples at a time. Sums over a ray are added lane by lane.
#include "cuda/launch.h"
#include "cuda/ray_walk.h"
#include "ops/composite.h"

namespace nf::cuda {
namespace {

constexpr int kRaysPerBlock = kBlock / 32;

template <typename T>
__device__ DistortionRun<T> shuffle_up(const DistortionRun<T>& run, int offset) {
  return {__shfl_up_sync(kWholeWarp, run.weight, offset), __shfl_up_sync(kWholeWarp, run.lever, offset),
          __shfl_up_sync(kWholeWarp, run.last, offset)};
}

// The run from the ray's first sample to this lane's; *before is that in front of the chunk and moves on to its end.
template <typename T>
__device__ DistortionRun<T> distortion_run(T weight, T midpoint, DistortionRun<T>* before) {
  DistortionRun<T> run{weight, T(0), midpoint};
  for (int offset = 1; offset < 32; offset *= 2) {
    const DistortionRun<T> front = shuffle_up(run, offset);
    if (lane_index() >= offset) run = front.then(run);
  }
  run = before->then(run);
  *before = {__shfl_sync(kWholeWarp, run.weight, 31), __shfl_sync(kWholeWarp, run.lever, 31),
             __shfl_sync(kWholeWarp, run.last, 31)};
  return run;
}

template <typename T>
__global__ void __launch_bounds__(kBlock) forward_kernel(PackedSamples<T> samples, CompositeOutputs<T> outputs) {
  const int64_t ray = int64_t(blockIdx.x) * kRaysPerBlock + threadIdx.x / 32;
  if (ray >= samples.n_rays) return;
  const int64_t start = samples.packed_info[2 * ray], count = samples.packed_info[2 * ray + 1];
  CompositeForward<T> sum;
  T distortion = 0;
  if (samples.holds(start, count)) {
    DistortionRun<T> before{};
    Chunk<T> chunk;
    for (Walk<T> walk{samples, start, start + count}; walk.step(&chunk);) {
      const int64_t i = chunk.i;
      T midpoint = 0, delta = 0;
      if (chunk.is_seen) {
        const T* c = samples.rgbs + 3 * i;
        sum.trans = chunk.trans;
        outputs.weights[i] = sum.add(chunk.alpha, c[0], c[1], c[2], samples.t_starts[i]);
        midpoint = samples.midpoint(i);
        delta = samples.delta(i);
      }
      const DistortionRun<T> run = distortion_run(chunk.weight, midpoint, &before);
      distortion += distortion_of(chunk.weight, run.lever, delta);
    }
  } else {
    sum.r = sum.g = sum.b = sum.depth = sum.acc = distortion = T(NAN);
  }
  const T r = warp_sum(sum.r), g = warp_sum(sum.g), b = warp_sum(sum.b), depth = warp_sum(sum.depth);
  const T acc = warp_sum(sum.acc);
  distortion = warp_sum(distortion);
  if (lane_index() != 0) return;
  outputs.rgb[3 * ray] = r;
  outputs.rgb[3 * ray + 1] = g;
  outputs.rgb[3 * ray + 2] = b;
  outputs.depth[ray] = depth;
  outputs.acc[ray] = acc;
  outputs.distortion[ray] = distortion;
}

template <typename T>
__global__ void __launch_bounds__(kBlock) backward_kernel(PackedSamples<T> samples, CompositeOutputs<const T> outputs,
                                                          CompositeOutputs<const T> dL, CompositeGradients<T> grads) {
  const int64_t ray = int64_t(blockIdx.x) * kRaysPerBlock + threadIdx.x / 32;
  if (ray >= samples.n_rays) return;
  const int64_t start = samples.packed_info[2 * ray], count = samples.packed_info[2 * ray + 1];
  if (!samples.holds(start, count) || count == 0) return;
  const CompositeUpstream<T> up = upstream(dL, ray);
  T suffix = up.total(outputs.rgb + 3 * ray, outputs.depth[ray], outputs.acc[ray], outputs.distortion[ray]);
  const T first = samples.midpoint(start);
  T total_weight = 0, total_lever = 0;
  if (dL.weights || dL.distortion) {  // weights behind the cut are zero
    T direct = 0;
    for (int64_t i = start + lane_index(); i < start + count; i += 32) {
      const T weight = outputs.weights[i];
      direct = madd(value_or_zero(dL.weights, i), weight, direct);
      total_weight += weight;
      total_lever = madd(weight, samples.midpoint(i) - first, total_lever);
    }
    suffix += warp_sum(direct);
    total_weight = warp_sum(total_weight);
    total_lever = warp_sum(total_lever);
  }
  DistortionRun<T> before{};
  Chunk<T> chunk;
  for (Walk<T> walk{samples, start, start + count}; walk.step(&chunk);) {
    const int64_t i = chunk.i;
    const T delta = chunk.is_seen ? samples.delta(i) : T(0);
    T d_weight = 0, d_midpoint = 0, v = 0;
    if (dL.distortion) {
      const DistortionRun<T> run = distortion_run(chunk.weight, chunk.is_seen ? samples.midpoint(i) : T(0), &before);
      distortion_derivatives(run, total_weight, total_lever, first, chunk.weight, delta, &d_weight, &d_midpoint);
    }
    if (chunk.is_seen)
      v = up.of_weight(samples.rgbs + 3 * i, samples.t_starts[i], value_or_zero(dL.weights, i), d_weight);
    const T walked = warp_inclusive_sum(chunk.weight * v);
    const T behind = suffix - walked;
    suffix -= __shfl_sync(kWholeWarp, walked, 31);
    if (!chunk.is_seen) continue;
    const T dL_dtau = madd(v, chunk.trans * (T(1) - chunk.alpha), -behind);
    grads.sigmas[i] = delta * dL_dtau;
    up.to_color(chunk.weight, grads.rgbs + 3 * i);
    if (grads.t_starts)
      up.to_interval(samples.sigmas[i], dL_dtau, chunk.weight, d_midpoint, grads.t_starts + i, grads.t_ends + i);
  }
}

}  // namespace

template <typename T>
void composite_forward(const PackedSamples<T>& samples, const CompositeOutputs<T>& outputs) {
  launch("composite_forward", forward_kernel<T>, Grid{blocks_for(samples.n_rays, kRaysPerBlock)}, samples, outputs);
}

template <typename T>
void composite_backward(const PackedSamples<T>& samples, const CompositeOutputs<const T>& outputs,
                        const CompositeOutputs<const T>& dL_doutputs, const CompositeGradients<T>& dL_dsamples) {
  launch("composite_backward", backward_kernel<T>, Grid{blocks_for(samples.n_rays, kRaysPerBlock)}, samples, outputs,
         dL_doutputs, dL_dsamples);
}

#define NF_INSTANTIATE(T)                                                                     \
  template void composite_forward(const PackedSamples<T>&, const CompositeOutputs<T>&);       \
  template void composite_backward(const PackedSamples<T>&, const CompositeOutputs<const T>&, \
                                   const CompositeOutputs<const T>&, const CompositeGradients<T>&);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
