// SPDX-License-Identifier: Apache-2.0
#include "ops/frequency.h"

#include "core/parallel.h"
#include "math/frequency.h"

namespace nf::cpu {

template <typename T>
void frequency_forward(const T* x, T* y, int64_t n, int n_frequencies) {
  parallel_for(n, FrequencyForward<T>{x, y, n_frequencies}, 1024);
}
template <typename T>
void frequency_backward(const T* x, const T* dL_dy, T* dL_dx, int64_t n, int n_frequencies) {
  parallel_for(n, FrequencyBackward<T>{x, dL_dy, dL_dx, n_frequencies}, 1024);
}

#define NF_INSTANTIATE(T)                                      \
  template void frequency_forward(const T*, T*, int64_t, int); \
  template void frequency_backward(const T*, const T*, T*, int64_t, int);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
