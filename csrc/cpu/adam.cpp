// SPDX-License-Identifier: Apache-2.0
#include "cpu/adam.h"

#include "core/parallel.h"
#include "core/simd.h"

namespace nf::cpu {
namespace {

template <typename T>
half round_to_half(T x) {
  return to_half(static_cast<float>(x));
}

// Rates for counts 0 ... K; from K on, beta^k changes 1 - beta^k by less than a float can tell. Entry 0 is never used.
template <typename T>
std::vector<T> own_rates(const AdamConfig& config) {
  std::vector<T> rates{T(0)};
  double power1 = 1, power2 = 1;
  do {
    power1 *= config.beta1;
    power2 *= config.beta2;
    rates.push_back(static_cast<T>(config.learning_rate * std::sqrt(1.0 - power2) / (1.0 - power1)));
  } while ((power1 > 0x1p-26 || power2 > 0x1p-26) && rates.size() <= kMaxOwnSteps);
  return rates;
}

typedef int16_t vs __attribute__((vector_size(kLanes * 2)));

NF_HD vi load_counts(const int16_t* p) {
  vs counts;
  std::memcpy(&counts, p, sizeof counts);
  return __builtin_convertvector(counts, vi);
}
NF_HD void store_counts(int16_t* p, vi counts) {
  const vs narrow = __builtin_convertvector(counts, vs);
  std::memcpy(p, &narrow, sizeof narrow);
}
NF_HD vi min(vi a, int32_t b) { return select(a < b, a, splat(b)); }

template <typename T, bool kOwnSteps>
void step_scalar(const AdamUpdate<T>& update, const std::vector<T>& rates, bool skip_zero, bool zero_grad,
                 const AdamArrays<T>& a, int64_t i, int64_t n) {
  const int last = static_cast<int>(rates.size()) - 1;
  for (; i < n; ++i) {
    const T g = a.grad[i];
    if (skip_zero && g == 0) continue;
    int count = 0;
    if (kOwnSteps) count = a.steps[i] = static_cast<int16_t>(nf::min(a.steps[i] + 1, kMaxOwnSteps));
    a.params[i] = update(a.params[i], g, rates[nf::min(count, last)], &a.exp_avg[i], &a.exp_avg_sq[i]);
    if (a.copy) a.copy[i] = round_to_half(a.params[i]);
    if (zero_grad) a.grad[i] = 0;
  }
}

// Whole vectors of [0, n); returns how far it came. Lanes that are skipped are written back unchanged.
template <bool kOwnSteps>
int64_t step_vectors(const AdamUpdate<float>& update, const std::vector<float>& rates, bool skip_zero, bool zero_grad,
                     const AdamArrays<float>& a, int64_t n) {
  const int last = static_cast<int>(rates.size()) - 1;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const vf g = load(a.grad + i);
    const vi live = skip_zero ? (vi)(g != 0) : splat(-1);
    if (!any(live)) continue;
    vf rate = splat(rates[0]);
    if (kOwnSteps) {
      const vi before = load_counts(a.steps + i);
      const vi count = min(before - live, kMaxOwnSteps);  // live lanes are -1
      store_counts(a.steps + i, count);
      rate = gather(rates.data(), min(count, last));
    }
    const vf w = load(a.params + i), m = load(a.exp_avg + i), v = load(a.exp_avg_sq + i);
    vf m_new = m, v_new = v;
    const vf w_new = select(live, update(w, g, rate, &m_new, &v_new), w);
    store(a.params + i, w_new);
    store(a.exp_avg + i, select(live, m_new, m));
    store(a.exp_avg_sq + i, select(live, v_new, v));
    if (a.copy) store(a.copy + i, w_new);
    if (zero_grad) store(a.grad + i, vf{});
  }
  return i;
}
template <bool kOwnSteps>
int64_t step_vectors(const AdamUpdate<double>&, const std::vector<double>&, bool, bool, const AdamArrays<double>&,
                     int64_t) {
  return 0;
}

}  // namespace

template <typename T>
AdamArrays<T> AdamArrays<T>::from(int64_t offset) const {
  const auto at = [offset](auto* array) { return array ? array + offset : nullptr; };
  return {at(params), at(grad), at(exp_avg), at(exp_avg_sq), at(steps), at(copy)};
}

template <typename T>
AdamStep<T>::AdamStep(const AdamConfig& config, int64_t step, bool own_steps)
    : update_(config), skip_zero_(config.skip_zero), zero_grad_(config.zero_grad) {
  if (own_steps)
    rates_ = own_rates<T>(config);
  else
    rates_ = {static_cast<T>(adam_rate(config, step))};
}

template <typename T>
void AdamStep<T>::operator()(const AdamArrays<T>& a, int64_t n) const {
  if (a.steps) {
    const int64_t done = step_vectors<true>(update_, rates_, skip_zero_, zero_grad_, a, n);
    step_scalar<T, true>(update_, rates_, skip_zero_, zero_grad_, a, done, n);
  } else {
    const int64_t done = step_vectors<false>(update_, rates_, skip_zero_, zero_grad_, a, n);
    step_scalar<T, false>(update_, rates_, skip_zero_, zero_grad_, a, done, n);
  }
}

template <typename T>
void adam_step(const AdamConfig& config, int64_t step, const double* clock, const AdamArrays<T>& arrays, int64_t n) {
  AdamConfig now = config;
  if (clock) {
    if (!(clock[0] >= 1)) return;
    step = static_cast<int64_t>(clock[0]);
    now.learning_rate = clock[1];
  }
  const AdamStep<T> run(now, step, arrays.steps != nullptr);
  parallel_ranges(n, 16384, [&](int64_t begin, int64_t end) { run(arrays.from(begin), end - begin); });
}

#define NF_INSTANTIATE(T)        \
  template struct AdamArrays<T>; \
  template class AdamStep<T>;    \
  template void adam_step(const AdamConfig&, int64_t, const double*, const AdamArrays<T>&, int64_t);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
