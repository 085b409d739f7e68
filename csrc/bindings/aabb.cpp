// SPDX-License-Identifier: Apache-2.0
#include "ops/aabb.h"

#include "bindings/common.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "ray_aabb",
      [](Array<const T, 2> origins, Array<const T, 2> directions, Array<const T, 1> aabb, Array<T, 1> t_near,
         Array<T, 1> t_far) {
        backend::ray_aabb(origins.data(), directions.data(), aabb.data(), t_near.data(), t_far.data(),
                          origins.shape(0));
      },
      nb::arg("origins").noconvert(), nb::arg("directions").noconvert(), nb::arg("aabb").noconvert(),
      nb::arg("t_near").noconvert(), nb::arg("t_far").noconvert(), ReleaseGil());
}

void bind_aabb(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
