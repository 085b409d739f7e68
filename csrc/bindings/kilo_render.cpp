// SPDX-License-Identifier: Apache-2.0
#include "cpu/kilo_render.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include "bindings/common.h"
#include "bindings/kilo_grid.h"
#include "bindings/occupancy.h"

namespace nf {

void bind_kilo_render(nb::module_& m) {
  m.def(
      "kilo_render",
      [](const std::array<int32_t, 3>& shape, Array<const float, 2> params, Array<const int32_t, 3> cells,
         const std::array<double, 6>& box, float density_scale, Array<const float, 2> origins,
         Array<const float, 2> directions, Array<const uint8_t, 2> bitfield, Array<const uint8_t, 2> coarse,
         const std::array<float, 6>& march, const std::optional<std::array<int64_t, 2>>& jitter, float skip_weight,
         Array<float, 2> rgb, Array<float, 1> depth, Array<float, 1> median_depth, Array<float, 1> acc) {
        cpu::FusedMarch m{};
        m.grid = occupancy_view(bitfield, coarse);
        m.lattice = StepLattice::make(march[0], march[1]);
        m.near = march[2], m.far = march[3], m.stop_trans = march[4], m.max_samples = static_cast<int>(march[5]);
        m.jitter = jitter.has_value();
        if (jitter)
          m.jitter_stream =
              random_stream(static_cast<uint64_t>((*jitter)[0]), static_cast<uint64_t>((*jitter)[1]), kMarchStream);
        const cpu::KiloField field{{shape[0], shape[1], shape[2]},
                                   params.data(),
                                   static_cast<int64_t>(params.shape(0)),
                                   kilo_grid<float>(cells, box),
                                   density_scale};
        cpu::kilo_render(field, m, {origins.data(), directions.data(), static_cast<int64_t>(origins.shape(0))},
                         skip_weight, {rgb.data(), depth.data(), median_depth.data(), acc.data()});
      },
      nb::arg("shape"), nb::arg("params").noconvert(), nb::arg("cells").noconvert(), nb::arg("box"),
      nb::arg("density_scale"), nb::arg("origins").noconvert(), nb::arg("directions").noconvert(),
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), nb::arg("march"), nb::arg("jitter").none(),
      nb::arg("skip_weight"), nb::arg("rgb").noconvert(), nb::arg("depth").noconvert(),
      nb::arg("median_depth").noconvert(), nb::arg("acc").noconvert(), ReleaseGil());
}

}  // namespace nf
