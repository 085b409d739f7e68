// SPDX-License-Identifier: Apache-2.0
#include "ops/adam.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include "bindings/common.h"

namespace nf {

// learning_rate, beta1, beta2, epsilon, l2_reg
using Rates = std::array<double, 5>;
static AdamConfig config_of(const Rates& v, bool skip_zero) { return {v[0], v[1], v[2], v[3], v[4], skip_zero, false}; }

using Counts = std::optional<Array<int16_t, 1>>;      // own step counts
using Copy = std::optional<Array<int16_t, 1>>;        // float16 as its bits
using Clock = std::optional<Array<const double, 1>>;  // step, learning rate

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "adam_step",
      [](Array<T, 1> params, Array<const T, 1> grad, Array<T, 1> exp_avg, Array<T, 1> exp_avg_sq, Counts steps,
         Copy copy, const Rates& rates, int64_t step, bool skip_zero, Clock clock) {
        // zero_grad is off: the gradient is only read
        const backend::AdamArrays<T> arrays{
            params.data(),     const_cast<T*>(grad.data()),     exp_avg.data(),
            exp_avg_sq.data(), steps ? steps->data() : nullptr, copy ? reinterpret_cast<half*>(copy->data()) : nullptr};
        backend::adam_step(config_of(rates, skip_zero), step, clock ? clock->data() : nullptr, arrays, params.shape(0));
      },
      nb::arg("params").noconvert(), nb::arg("grad").noconvert(), nb::arg("exp_avg").noconvert(),
      nb::arg("exp_avg_sq").noconvert(), nb::arg("steps").noconvert().none(), nb::arg("copy").noconvert().none(),
      nb::arg("rates"), nb::arg("step"), nb::arg("skip_zero"), nb::arg("clock").noconvert().none(), ReleaseGil());
}

void bind_adam(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
