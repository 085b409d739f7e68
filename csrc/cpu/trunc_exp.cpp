// SPDX-License-Identifier: Apache-2.0
#include "ops/trunc_exp.h"

#include "core/parallel.h"
#include "math/trunc_exp.h"

namespace nf::cpu {
namespace {

constexpr int64_t kGrain = 16384;

}  // namespace

void trunc_exp_forward(const float* x, float* y, int64_t n) {
  const TruncExpForward<float> one{x, y};
  parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(y + i, exponential(load(x + i)));
    for (; i < end; ++i) one(i);
  });
}
void trunc_exp_backward(const float* x, const float* dL_dy, float* dL_dx, int64_t n) {
  const TruncExpBackward<float> one{x, dL_dy, dL_dx};
  parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(dL_dx + i, load(dL_dy + i) * trunc_exp_derivative(load(x + i)));
    for (; i < end; ++i) one(i);
  });
}

void trunc_exp_forward(const double* x, double* y, int64_t n) { parallel_for(n, TruncExpForward<double>{x, y}); }
void trunc_exp_backward(const double* x, const double* dL_dy, double* dL_dx, int64_t n) {
  parallel_for(n, TruncExpBackward<double>{x, dL_dy, dL_dx});
}

}  // namespace nf::cpu
