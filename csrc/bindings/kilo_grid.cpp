// SPDX-License-Identifier: Apache-2.0
#include "bindings/kilo_grid.h"

#include <nanobind/stl/array.h>

#include "ops/kilo_grid.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "kilo_locate",
      [](Array<const T, 2> x, Array<const int32_t, 3> cells, const KiloBox& box, Array<int32_t, 1> network,
         Array<T, 2> local) {
        backend::kilo_locate(kilo_grid<T>(cells, box), x.data(), static_cast<int64_t>(x.shape(0)), network.data(),
                             local.data());
      },
      nb::arg("x").noconvert(), nb::arg("cells").noconvert(), nb::arg("box"), nb::arg("network").noconvert(),
      nb::arg("local").noconvert(), ReleaseGil());
}

void bind_kilo_grid(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
