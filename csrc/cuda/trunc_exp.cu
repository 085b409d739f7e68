// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "math/trunc_exp.h"
#include "ops/trunc_exp.h"

namespace nf::cuda {

#define NF_DEFINE(T)                                                                                                  \
  void trunc_exp_forward(const T* x, T* y, int64_t n) { for_each("trunc_exp_forward", n, TruncExpForward<T>{x, y}); } \
  void trunc_exp_backward(const T* x, const T* dL_dy, T* dL_dx, int64_t n) {                                          \
    for_each("trunc_exp_backward", n, TruncExpBackward<T>{x, dL_dy, dL_dx});                                          \
  }
NF_DEFINE(float)
NF_DEFINE(double)

}  // namespace nf::cuda
