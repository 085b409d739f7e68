// SPDX-License-Identifier: Apache-2.0
#include "ops/kilo_visible.h"

#include "bindings/fused_field.h"
#include "bindings/kilo_field.h"

namespace nf {

void bind_kilo_visible(nb::module_& m) {
  m.def(
      "kilo_visible",
      [](const KiloSizes& shape, Array<const float, 2> params, Array<const int32_t, 3> cells, const KiloBox& box,
         float density_scale, Rays origins, Rays directions, Bits bitfield, Bits coarse, const March& march,
         const Jitter& jitter, Array<int64_t, 2> packed_info, Array<int64_t, 1> ray_indices, Array<float, 1> t_starts,
         Array<float, 1> t_ends, Array<int64_t, 1> counts, bool is_padded, Array<uint8_t, 1> scratch) {
        backend::kilo_visible(kilo_field(shape, params, cells, box, density_scale),
                              march_of(bitfield, coarse, march, jitter),
                              {origins.data(), directions.data(), static_cast<int64_t>(origins.shape(0))},
                              {static_cast<int64_t>(t_starts.shape(0)), packed_info.data(), ray_indices.data(),
                               t_starts.data(), t_ends.data(), counts.data()},
                              is_padded, scratch.data());
      },
      nb::arg("shape"), nb::arg("params").noconvert(), nb::arg("cells").noconvert(), nb::arg("box"),
      nb::arg("density_scale"), nb::arg("origins").noconvert(), nb::arg("directions").noconvert(),
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), nb::arg("march"), nb::arg("jitter").none(),
      nb::arg("packed_info").noconvert(), nb::arg("ray_indices").noconvert(), nb::arg("t_starts").noconvert(),
      nb::arg("t_ends").noconvert(), nb::arg("counts").noconvert(), nb::arg("is_padded"),
      nb::arg("scratch").noconvert(), ReleaseGil());
  m.def("kilo_visible_scratch_bytes", &backend::kilo_visible_scratch_bytes, nb::arg("n_rays"), nb::arg("max_samples"));
}

}  // namespace nf
