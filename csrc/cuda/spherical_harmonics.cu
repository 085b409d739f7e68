// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "math/spherical_harmonics.h"
#include "ops/spherical_harmonics.h"

namespace nf::cuda {

template <typename T>
void spherical_harmonics_forward(const T* directions, T* y, int64_t n, int degree) {
  with_degree(degree, [&](auto d) {
    for_each("spherical_harmonics_forward", n, SphericalHarmonicsForward<decltype(d)::value, T>{directions, y});
  });
}
template <typename T>
void spherical_harmonics_backward(const T* directions, const T* dL_dy, T* dL_ddirections, int64_t n, int degree) {
  with_degree(degree, [&](auto d) {
    for_each("spherical_harmonics_backward", n,
             SphericalHarmonicsBackward<decltype(d)::value, T>{directions, dL_dy, dL_ddirections});
  });
}

#define NF_INSTANTIATE(T)                                                \
  template void spherical_harmonics_forward(const T*, T*, int64_t, int); \
  template void spherical_harmonics_backward(const T*, const T*, T*, int64_t, int);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
