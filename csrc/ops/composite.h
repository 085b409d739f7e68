// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/macros.h"

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

// Both throw std::invalid_argument when a range leaves the samples.
template <typename T>
void composite_forward(const PackedSamples<T>& samples, const CompositeOutputs<T>& outputs);
// dL_doutputs: any may be null.
template <typename T>
void composite_backward(const PackedSamples<T>& samples, const CompositeOutputs<const T>& outputs,
                        const CompositeOutputs<const T>& dL_doutputs, const CompositeGradients<T>& dL_dsamples);

}  // namespace nf::NF_BACKEND
