// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "math/spherical_harmonics.h"
#include "ops/spherical_harmonics.h"

namespace nf::cuda {
namespace {

// As SphericalHarmonicsForward. A row leaves a thread 16 bytes at a time where it can: one number at a time,
// neighbouring threads write to other sectors with every number.
template <int kDegree, typename T>
struct ForwardRow {
  static constexpr int kColumns = kDegree * kDegree, kVector = 16 / sizeof(T);
  struct alignas(16) Vector {
    T values[kVector];
  };
  const T* directions;  // [n, 3]
  T* y;                 // [n, kColumns]
  NF_HD void operator()(int64_t i) const {
    if constexpr (kColumns % kVector == 0) {
      alignas(Vector) T row[kColumns];
      SphericalHarmonicsForward<kDegree, T>{directions + 3 * i, row}(0);
      auto* to = reinterpret_cast<Vector*>(y + i * kColumns);
      NF_UNROLL for (int k = 0; k < kColumns / kVector; ++k) to[k] = reinterpret_cast<const Vector*>(row)[k];
    } else {
      SphericalHarmonicsForward<kDegree, T>{directions, y}(i);
    }
  }
};

}  // namespace

template <typename T>
void spherical_harmonics_forward(const T* directions, T* y, int64_t n, int degree) {
  with_degree(degree, [&](auto d) {
    for_each("spherical_harmonics_forward", n, ForwardRow<decltype(d)::value, T>{directions, y});
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
