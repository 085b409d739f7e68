// SPDX-License-Identifier: Apache-2.0
#include "ops/gates.h"

#include <nanobind/stl/vector.h>

#include "bindings/common.h"
#include "bindings/modulation.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "gates_forward",
      [](const Resolution& resolution, Array<const T, 2> x, Array<const uint8_t, 2> counts, Array<const T, 1> factors,
         Array<T, 2> y) {
        backend::gates_forward<T>(modulation_grid(resolution), x.data(), counts.data(), factors.data(),
                                  static_cast<int>(counts.shape(1)), x.shape(0), y.data());
      },
      nb::arg("resolution"), nb::arg("x").noconvert(), nb::arg("counts").noconvert(), nb::arg("factors").noconvert(),
      nb::arg("y").noconvert(), ReleaseGil());
}

void bind_gates(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
