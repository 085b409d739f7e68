// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/composite.h"

namespace nf::NF_BACKEND {

// Samples of many rays, one after the other; ray r owns packed_info[r] = (start, count). Ranges must not overlap.
template <typename T>
struct PackedSamples {
  const T* sigmas;             // [n_samples]
  const T* rgbs;               // [n_samples, 3]
  const T* t_starts;           // [n_samples]
  const T* t_ends;             // [n_samples]
  const int64_t* packed_info;  // [n_rays, 2]
  int64_t n_samples, n_rays;
  T stop_trans;  // a ray is cut behind the sample that takes its transmittance below; 0: never

  NF_HD T delta(int64_t i) const { return t_ends[i] - t_starts[i]; }
  NF_HD T midpoint(int64_t i) const { return T(0.5) * (t_starts[i] + t_ends[i]); }
  // Whether the range of a ray lies within the samples.
  NF_HD bool holds(int64_t start, int64_t count) const {
    return start >= 0 && count >= 0 && start <= n_samples && count <= n_samples - start;
  }
};

// Outputs of the forward and their gradients.
template <typename T>
struct CompositeOutputs {
  T* rgb;         // [n_rays, 3]
  T* depth;       // [n_rays]
  T* acc;         // [n_rays]
  T* weights;     // [n_samples], zeros on entry: samples that are cut or in no ray stay zero
  T* distortion;  // [n_rays]
};

template <typename T>
struct CompositeGradients {  // zeros on entry
  T* sigmas;                 // [n_samples]
  T* rgbs;                   // [n_samples, 3]
  T* t_starts;               // [n_samples] or null
  T* t_ends;                 // [n_samples] or null, as t_starts
};

template <typename T>
NF_HD T value_or_zero(const T* values, int64_t i) {
  return values ? values[i] : T(0);
}

template <typename T>
NF_HD CompositeUpstream<T> upstream(const CompositeOutputs<const T>& dL, int64_t ray) {
  return {value_or_zero(dL.rgb, 3 * ray), value_or_zero(dL.rgb, 3 * ray + 1), value_or_zero(dL.rgb, 3 * ray + 2),
          value_or_zero(dL.depth, ray),   value_or_zero(dL.acc, ray),         value_or_zero(dL.distortion, ray)};
}

// A range that leaves the samples throws std::invalid_argument on the CPU; on CUDA, where only the device knows it,
// the outputs of its ray are NaN and it gives no gradient.
template <typename T>
void composite_forward(const PackedSamples<T>& samples, const CompositeOutputs<T>& outputs);
// dL_doutputs: any may be null.
template <typename T>
void composite_backward(const PackedSamples<T>& samples, const CompositeOutputs<const T>& outputs,
                        const CompositeOutputs<const T>& dL_doutputs, const CompositeGradients<T>& dL_dsamples);

}  // namespace nf::NF_BACKEND
