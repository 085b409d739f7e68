// SPDX-License-Identifier: Apache-2.0
#include "ops/kilo_render.h"

#include "bindings/fused_field.h"
#include "bindings/kilo_field.h"

namespace nf {

void bind_kilo_render(nb::module_& m) {
  m.def(
      "kilo_render",
      [](const KiloSizes& shape, Array<const float, 2> params, Array<const int32_t, 3> cells, const KiloBox& box,
         float density_scale, Rays origins, Rays directions, Bits bitfield, Bits coarse, const March& march,
         const Jitter& jitter, float skip_weight, Array<float, 2> rgb, Array<float, 1> depth,
         Array<float, 1> median_depth, Array<float, 1> acc, Array<float, 2> merged) {
        backend::kilo_render(kilo_field(shape, params, cells, box, density_scale),
                             march_of(bitfield, coarse, march, jitter),
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
