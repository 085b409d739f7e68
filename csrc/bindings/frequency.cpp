// SPDX-License-Identifier: Apache-2.0
#include "ops/frequency.h"

#include "bindings/common.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "frequency_forward",
      [](Array<const T, 1> x, Array<T, 2> y) {
        backend::frequency_forward(x.data(), y.data(), x.shape(0), static_cast<int>(y.shape(1) / 2));
      },
      nb::arg("x").noconvert(), nb::arg("y").noconvert(), ReleaseGil());
  m.def(
      "frequency_backward",
      [](Array<const T, 1> x, Array<const T, 2> dL_dy, Array<T, 1> dL_dx) {
        expect_size("frequency_backward: grad_y", x.size() * static_cast<int64_t>(dL_dy.shape(1)), dL_dy.size());
        backend::frequency_backward(x.data(), dL_dy.data(), dL_dx.data(), x.shape(0),
                                    static_cast<int>(dL_dy.shape(1) / 2));
      },
      nb::arg("x").noconvert(), nb::arg("dL_dy").noconvert(), nb::arg("dL_dx").noconvert(), ReleaseGil());
}

void bind_frequency(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
