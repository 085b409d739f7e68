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
  const double* clock;
  bool skip_zero, zero_grad;
  AdamArrays<T> a;

  __device__ void operator()(int64_t i) const {
    const T g = a.grad[i];
    if ((skip_zero && g == 0) || (clock && !(clock[0] >= 1))) return;
    T this_rate = rate;
    if (kOwnSteps || clock) {
      AdamRates<T> rates = own_rates;
      if (clock) rates.learning_rate = static_cast<T>(clock[1]);
      int32_t count;
      if (kOwnSteps) {
        count = min(a.steps[i] + 1, kMaxOwnSteps);
        a.steps[i] = static_cast<int16_t>(count);
      } else {
        count = static_cast<int32_t>(clock[0]);
      }
      this_rate = rates(count);
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
void step_all(const AdamConfig& c, int64_t step, const double* clock, const AdamArrays<T>& arrays, int64_t n) {
  const T rate = kOwnSteps || clock ? T(0) : static_cast<T>(adam_rate(c, step));
  for_each("adam_step", n,
           AdamElement<T, kOwnSteps>{AdamUpdate<T>(c), AdamRates<T>(c), rate, clock, c.skip_zero, c.zero_grad, arrays});
}

}  // namespace

template <typename T>
void adam_step(const AdamConfig& config, int64_t step, const double* clock, const AdamArrays<T>& arrays, int64_t n) {
  if (arrays.steps)
    step_all<true>(config, step, clock, arrays, n);
  else
    step_all<false>(config, step, clock, arrays, n);
}

template void adam_step(const AdamConfig&, int64_t, const double*, const AdamArrays<float>&, int64_t);
template void adam_step(const AdamConfig&, int64_t, const double*, const AdamArrays<double>&, int64_t);

}  // namespace nf::cuda
