// SPDX-License-Identifier: Apache-2.0
#include "ops/kilo_render.h"

#include "bindings/fused_field.h"
#include "bindings/kilo_grid.h"

namespace nf {

void bind_kilo_render(nb::module_& m) {
  m.def(
      "kilo_render",
      [](const std::array<int32_t, 3>& shape, Array<const float, 2> params, Array<const int32_t, 3> cells,
         const std::array<double, 6>& box, float density_scale, Rays origins, Rays directions, Bits bitfield,
         Bits coarse, const March& march, const Jitter& jitter, float skip_weight, Array<float, 2> rgb,
         Array<float, 1> depth, Array<float, 1> median_depth, Array<float, 1> acc, Array<float, 2> merged) {
        const backend::KiloField field{{shape[0], shape[1], shape[2]},
                                       params.data(),
                                       static_cast<int64_t>(params.shape(0)),
                                       kilo_grid<float>(cells, box),
                                       density_scale};
        backend::kilo_render(field, march_of(bitfield, coarse, march, jitter),
                             {origins.data(), directions.data(), static_cast<int64_t>(origins.shape(0))}, skip_weight,
                             {rgb.data(), depth.data(), median_depth.data(), acc.data()}, merged.data());
      },
      nb::arg("shape"), nb::arg("params").noconvert(), nb::arg("cells").noconvert(), nb::arg("box"),
      nb::arg("density_scale"), nb::arg("origins").noconvert(), nb::arg("directions").noconvert(),
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), nb::arg("march"), nb::arg("jitter").none(),
      nb::arg("skip_weight"), nb::arg("rgb").noconvert(), nb::arg("depth").noconvert(),
      nb::arg("median_depth").noconvert(), nb::arg("acc").noconvert(), nb::arg("merged").noconvert(), ReleaseGil());
}

}  // namespace nf
