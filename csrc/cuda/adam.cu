// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "ops/adam.h"

namespace nf::cuda {
namespace {

template <typename T, bool kOwnSteps>
struct AdamElement {
  AdamUpdate<T> update;
  AdamRates<T> own_rates;
  T rate;
  bool skip_zero, zero_grad;
  AdamArrays<T> a;

  __device__ void operator()(int64_t i) const {
    const T g = a.grad[i];
    if (skip_zero && g == 0) return;
    T this_rate = rate;
    if (kOwnSteps) {
      const int32_t count = min(a.steps[i] + 1, kMaxOwnSteps);
      a.steps[i] = static_cast<int16_t>(count);
      this_rate = own_rates(count);
    }
    T m = a.exp_avg[i], v = a.exp_avg_sq[i];
    const T w = update(a.params[i], g, this_rate, &m, &v);
    a.params[i] = w;
    a.exp_avg[i] = m;
    a.exp_avg_sq[i] = v;
    if (a.copy) a.copy[i] = to_half(static_cast<float>(w));
    if (zero_grad) a.grad[i] = 0;
  }
};

template <bool kOwnSteps, typename T>
void step_all(const AdamConfig& c, int64_t step, const AdamArrays<T>& arrays, int64_t n) {
  const T rate = kOwnSteps ? T(0) : static_cast<T>(adam_rate(c, step));
  for_each("adam_step", n,
           AdamElement<T, kOwnSteps>{AdamUpdate<T>(c), AdamRates<T>(c), rate, c.skip_zero, c.zero_grad, arrays});
}

}  // namespace

template <typename T>
void adam_step(const AdamConfig& config, int64_t step, const AdamArrays<T>& arrays, int64_t n) {
  if (arrays.steps)
    step_all<true>(config, step, arrays, n);
  else
    step_all<false>(config, step, arrays, n);
}

template void adam_step(const AdamConfig&, int64_t, const AdamArrays<float>&, int64_t);
template void adam_step(const AdamConfig&, int64_t, const AdamArrays<double>&, int64_t);

}  // namespace nf::cuda
