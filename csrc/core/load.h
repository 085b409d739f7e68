// SPDX-License-Identifier: Apache-2.0
// N neighbouring values in as few loads or stores as the device has for them. On the device `p` must be aligned to
// all of them, at most 16 bytes.
#pragma once

#include <cstring>

#include "core/macros.h"

namespace nf {

template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Aligned {
  T v[N];
};

template <int N, typename T>
NF_HD void load_values(const T* p, T* values) {
#ifdef __CUDA_ARCH__
  const Aligned<T, N> all = *reinterpret_cast<const Aligned<T, N>*>(p);
  NF_UNROLL for (int i = 0; i < N; ++i) values[i] = all.v[i];
#else
  std::memcpy(values, p, N * sizeof(T));
#endif
}

template <int N, typename T>
NF_HD void store_values(T* p, const T* values) {
#ifdef __CUDA_ARCH__
  Aligned<T, N> all;
  NF_UNROLL for (int i = 0; i < N; ++i) all.v[i] = values[i];
  *reinterpret_cast<Aligned<T, N>*>(p) = all;
#else
  std::memcpy(p, values, N * sizeof(T));
#endif
}

}  // namespace nf
