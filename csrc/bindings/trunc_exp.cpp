// SPDX-License-Identifier: Apache-2.0
#include "ops/trunc_exp.h"

#include "bindings/common.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "trunc_exp_forward",
      [](Array<const T, 1> x, Array<T, 1> y) { backend::trunc_exp_forward(x.data(), y.data(), x.shape(0)); },
      nb::arg("x").noconvert(), nb::arg("y").noconvert(), ReleaseGil());
  m.def(
      "trunc_exp_backward",
      [](Array<const T, 1> x, Array<const T, 1> dL_dy, Array<T, 1> dL_dx) {
        expect_size("trunc_exp_backward: grad_y", x.size(), dL_dy.size());
        backend::trunc_exp_backward(x.data(), dL_dy.data(), dL_dx.data(), x.shape(0));
      },
      nb::arg("x").noconvert(), nb::arg("dL_dy").noconvert(), nb::arg("dL_dx").noconvert(), ReleaseGil());
}

void bind_trunc_exp(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
