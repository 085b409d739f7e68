// SPDX-License-Identifier: Apache-2.0
#include "ops/spherical_harmonics.h"

#include "bindings/common.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "spherical_harmonics_forward",
      [](Array<const T, 2> directions, Array<T, 2> y, int degree) {
        backend::spherical_harmonics_forward(directions.data(), y.data(), directions.shape(0), degree);
      },
      nb::arg("directions").noconvert(), nb::arg("y").noconvert(), nb::arg("degree"), ReleaseGil());
  m.def(
      "spherical_harmonics_backward",
      [](Array<const T, 2> directions, Array<const T, 2> dL_dy, Array<T, 2> dL_ddirections, int degree) {
        expect_size("spherical_harmonics_backward: grad_y", static_cast<int64_t>(directions.shape(0)) * degree * degree,
                    dL_dy.size());
        backend::spherical_harmonics_backward(directions.data(), dL_dy.data(), dL_ddirections.data(),
                                              directions.shape(0), degree);
      },
      nb::arg("directions").noconvert(), nb::arg("dL_dy").noconvert(), nb::arg("dL_ddirections").noconvert(),
      nb::arg("degree"), ReleaseGil());
}

void bind_spherical_harmonics(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
