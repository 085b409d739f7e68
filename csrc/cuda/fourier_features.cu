// SPDX-License-Identifier: Apache-2.0
// Forward a thread per sample and frequency, whose sine and cosine lie side by side. Backward a warp per sample: lanes
// take frequencies by stride, and their sums meet in a fixed order.
#include "cuda/launch.h"
#include "cuda/warp.h"
#include "math/fourier_features.h"
#include "ops/fourier_features.h"

namespace nf::cuda {
namespace {

template <typename T>
struct WriteFrequency {
  FourierForward<T> samples;
  NF_HD void operator()(int64_t i) const {
    samples.write(i / samples.n_frequencies, static_cast<int>(i % samples.n_frequencies));
  }
};

template <typename T>
__global__ void __launch_bounds__(kBlock) fourier_backward_kernel(const FourierBackward<T> samples, int64_t n) {
  const int64_t i = (int64_t(blockIdx.x) * kBlock + threadIdx.x) / 32;
  if (i >= n) return;  // the whole warp
  T sums[kMaxFourierDims] = {};
  for (int k = lane_index(); k < samples.n_frequencies; k += 32) {
    const T slope = samples.slope(i, k);
    NF_UNROLL for (int j = 0; j < kMaxFourierDims; ++j) if (j < samples.n_dims) sums[j] =
        madd(slope, samples.frequencies[j * samples.n_frequencies + k], sums[j]);
  }
  NF_UNROLL for (int j = 0; j < kMaxFourierDims; ++j) {
    const T sum = warp_sum(sums[j]);
    if (j < samples.n_dims && lane_index() == 0) samples.dL_dx[i * samples.n_dims + j] = sum;
  }
}

}  // namespace

template <typename T>
void fourier_features_forward(FourierSizes s, const T* x, const T* frequencies, const T* gates, int64_t n, T* y) {
  for_each("fourier_features_forward", n * s.n_frequencies,
           WriteFrequency<T>{{x, frequencies, gates, y, s.n_dims, s.n_frequencies, s.n_gates}});
}
template <typename T>
void fourier_features_backward(FourierSizes s, const T* x, const T* frequencies, const T* gates, const T* dL_dy,
                               int64_t n, T* dL_dx) {
  launch("fourier_features_backward", fourier_backward_kernel<T>, Grid{blocks_for(n * 32)},
         FourierBackward<T>{x, frequencies, gates, dL_dy, dL_dx, s.n_dims, s.n_frequencies, s.n_gates}, n);
}

#define NF_INSTANTIATE(T)                                                                          \
  template void fourier_features_forward(FourierSizes, const T*, const T*, const T*, int64_t, T*); \
  template void fourier_features_backward(FourierSizes, const T*, const T*, const T*, const T*, int64_t, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
