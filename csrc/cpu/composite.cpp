// SPDX-License-Identifier: Apache-2.0
// A task owns a block of rays and with them their samples, so results do not depend on the number of threads.
#include "ops/composite.h"

#include "core/parallel.h"
#include "cpu/ray_walk.h"

namespace nf::cpu {
namespace {

constexpr int64_t kRaysPerTask = 64;

template <typename T>
void forward_ray(const PackedSamples<T>& samples, const CompositeOutputs<T>& outputs, int64_t ray) {
  CompositeForward<T> sum;
  DistortionForward<T> distortion;
  walk_ray(samples, range_of("composite", samples, ray), sum, [&](int64_t i, T alpha) {
    const T* c = samples.rgbs + 3 * i;
    const T weight = sum.add(alpha, c[0], c[1], c[2], samples.t_starts[i]);
    distortion.add(weight, samples.midpoint(i), samples.delta(i));
    outputs.weights[i] = weight;
  });
  outputs.rgb[3 * ray] = sum.r;
  outputs.rgb[3 * ray + 1] = sum.g;
  outputs.rgb[3 * ray + 2] = sum.b;
  outputs.depth[ray] = sum.depth;
  outputs.acc[ray] = sum.acc;
  outputs.distortion[ray] = distortion.value;
}

// What DistortionBackward starts with, from the weights that the forward stored (zero behind the cut).
template <typename T>
DistortionBackward<T> distortion_totals(const PackedSamples<T>& samples, RayRange range, const T* weights) {
  const T first = range.begin < range.end ? samples.midpoint(range.begin) : T(0);
  T weight = 0, lever = 0;
  for (int64_t i = range.begin; i < range.end; ++i) {
    weight += weights[i];
    lever = madd(weights[i], samples.midpoint(i) - first, lever);
  }
  return DistortionBackward<T>(weight, lever, first);
}

template <typename T>
void backward_ray(const PackedSamples<T>& samples, const CompositeOutputs<const T>& outputs,
                  const CompositeOutputs<const T>& dL, const CompositeGradients<T>& grads, int64_t ray) {
  const RayRange range = range_of("composite", samples, ray);
  const CompositeUpstream<T> up = upstream(dL, ray);
  T total = up.total(outputs.rgb + 3 * ray, outputs.depth[ray], outputs.acc[ray], outputs.distortion[ray]);
  if (dL.weights)
    for (int64_t i = range.begin; i < range.end; ++i) total = madd(dL.weights[i], outputs.weights[i], total);

  DistortionBackward<T> spread(0, 0, 0);
  if (dL.distortion) spread = distortion_totals(samples, range, outputs.weights);
  CompositeBackward<T> walk(total);
  walk_ray(samples, range, walk, [&](int64_t i, T alpha) {
    const T* c = samples.rgbs + 3 * i;
    const T delta = samples.delta(i);
    const T weight = walk.weight(alpha);
    T d_weight = 0, d_midpoint = 0;
    if (dL.distortion) spread.add(weight, samples.midpoint(i), delta, &d_weight, &d_midpoint);
    const T dL_dtau = walk.add(alpha, up.of_weight(c, samples.t_starts[i], value_or_zero(dL.weights, i), d_weight));
    grads.sigmas[i] = delta * dL_dtau;
    up.to_color(weight, grads.rgbs + 3 * i);
    if (grads.t_starts)
      up.to_interval(samples.sigmas[i], dL_dtau, weight, d_midpoint, grads.t_starts + i, grads.t_ends + i);
  });
}

}  // namespace

template <typename T>
void composite_forward(const PackedSamples<T>& samples, const CompositeOutputs<T>& outputs) {
  parallel_for(samples.n_rays, [&](int64_t ray) { forward_ray(samples, outputs, ray); }, kRaysPerTask);
}

template <typename T>
void composite_backward(const PackedSamples<T>& samples, const CompositeOutputs<const T>& outputs,
                        const CompositeOutputs<const T>& dL_doutputs, const CompositeGradients<T>& dL_dsamples) {
  parallel_for(
      samples.n_rays, [&](int64_t ray) { backward_ray(samples, outputs, dL_doutputs, dL_dsamples, ray); },
      kRaysPerTask);
}

#define NF_INSTANTIATE(T)                                                                     \
  template void composite_forward(const PackedSamples<T>&, const CompositeOutputs<T>&);       \
  template void composite_backward(const PackedSamples<T>&, const CompositeOutputs<const T>&, \
                                   const CompositeOutputs<const T>&, const CompositeGradients<T>&);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
