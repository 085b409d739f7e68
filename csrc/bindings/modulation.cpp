// SPDX-License-Identifier: Apache-2.0
#include "ops/modulation.h"

#include <nanobind/stl/vector.h>

#include "bindings/common.h"
#include "bindings/modulation.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "modulation_forward",
      [](const Resolution& resolution, Array<const T, 2> x, Array<const T, 2> values, Array<T, 2> y) {
        backend::modulation_forward<T>(modulation_grid(resolution), x.data(), values.data(),
                                       static_cast<int>(values.shape(1)), x.shape(0), y.data());
      },
      nb::arg("resolution"), nb::arg("x").noconvert(), nb::arg("values").noconvert(), nb::arg("y").noconvert(),
      ReleaseGil());
  m.def(
      "modulation_backward",
      [](const Resolution& resolution, Array<const T, 2> x, Array<const T, 2> values, Array<const T, 2> dL_dy,
         Array<T, 2> dL_dvalues, Array<T, 2> dL_dx, Array<T, 1> scratch, bool needs_values, bool needs_x) {
        expect_size("modulation_backward: grad_y", static_cast<int64_t>(x.shape(0) * values.shape(1)), dL_dy.size());
        backend::modulation_backward<T>(
            modulation_grid(resolution), x.data(), values.data(), dL_dy.data(), static_cast<int>(values.shape(1)),
            x.shape(0), needs_values ? dL_dvalues.data() : nullptr, needs_x ? dL_dx.data() : nullptr, scratch.data());
      },
      nb::arg("resolution"), nb::arg("x").noconvert(), nb::arg("values").noconvert(), nb::arg("dL_dy").noconvert(),
      nb::arg("dL_dvalues").noconvert(), nb::arg("dL_dx").noconvert(), nb::arg("scratch").noconvert(),
      nb::arg("needs_values"), nb::arg("needs_x"), ReleaseGil());
}

void bind_modulation(nb::module_& m) {
  m.def(
      "modulation_scratch",
      [](const Resolution& resolution, int n_channels, int64_t n) {
        return backend::modulation_scratch(modulation_grid(resolution), n_channels, n);
      },
      nb::arg("resolution"), nb::arg("n_channels"), nb::arg("n"), "Values of scratch of modulation_backward.");
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
