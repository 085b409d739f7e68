// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "math/wavelet.h"
#include "ops/wavelet.h"

namespace nf::cuda {

template <typename T>
void wavelet_forward(const T* u, double omega, double scale, T* h, int64_t n, int64_t width) {
  const Wavelet<T> wavelet{static_cast<T>(omega), static_cast<T>(scale * scale)};
  for_each("wavelet_forward", n * width, WaveletForward<T>{u, h, width, wavelet});
}
template <typename T>
void wavelet_backward(const T* u, const T* h, const T* dL_dh, double omega, double scale, T* dL_du, int64_t n,
                      int64_t width) {
  const Wavelet<T> wavelet{static_cast<T>(omega), static_cast<T>(scale * scale)};
  for_each("wavelet_backward", n * width, WaveletBackward<T>{u, h, dL_dh, dL_du, width, wavelet});
}

#define NF_INSTANTIATE(T)                                                        \
  template void wavelet_forward(const T*, double, double, T*, int64_t, int64_t); \
  template void wavelet_backward(const T*, const T*, const T*, double, double, T*, int64_t, int64_t);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
