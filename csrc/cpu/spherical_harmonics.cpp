// SPDX-License-Identifier: Apache-2.0
#include "ops/spherical_harmonics.h"

#include "core/parallel.h"
#include "math/spherical_harmonics.h"

namespace nf::cpu {
namespace {

constexpr int64_t kGrain = 1024;

}  // namespace

template <typename T>
void spherical_harmonics_forward(const T* directions, T* y, int64_t n, int degree) {
  with_degree(degree, [&](auto d) {
    parallel_for(n, SphericalHarmonicsForward<decltype(d)::value, T>{directions, y}, kGrain);
  });
}
template <typename T>
void spherical_harmonics_backward(const T* directions, const T* dL_dy, T* dL_ddirections, int64_t n, int degree) {
  with_degree(degree, [&](auto d) {
    parallel_for(n, SphericalHarmonicsBackward<decltype(d)::value, T>{directions, dL_dy, dL_ddirections}, kGrain);
  });
}

#define NF_INSTANTIATE(T)                                                \
  template void spherical_harmonics_forward(const T*, T*, int64_t, int); \
  template void spherical_harmonics_backward(const T*, const T*, T*, int64_t, int);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
