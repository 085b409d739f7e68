// SPDX-License-Identifier: Apache-2.0
#include "ops/fused_render.h"

#include "bindings/fused_field.h"

namespace nf {

void bind_fused_render(nb::module_& m) {
  m.def(
      "fused_render_scratch_bytes",
      [](const Sizes& sizes, const Scales& scales) {
        const backend::FusedField field = field_of(sizes, scales, nullptr, false, nullptr, nullptr);
        return backend::fused_render_scratch_bytes(field, backend::FusedMarch{});
      },
      nb::arg("sizes"), nb::arg("scales"), ReleaseGil());
#ifdef NF_CUDA
  m.def(
      "fused_render_shared_bytes",
      [](const Sizes& sizes) {
        return backend::fused_render_shared_bytes(field_of(sizes, Scales{}, nullptr, false, nullptr, nullptr));
      },
      nb::arg("sizes"), ReleaseGil());
#endif
  m.def(
      "fused_render",
      [](const Sizes& sizes, const Scales& scales, Table table, Params density, Params color, Rays origins,
         Rays directions, Bits bitfield, Bits coarse, const March& march, const Jitter& jitter, float skip_weight,
         Scratch scratch, Array<float, 2> rgb, Array<float, 1> depth, Array<float, 1> median_depth,
         Array<float, 1> acc) {
        backend::fused_render(field_of(sizes, scales, table, density, color), march_of(bitfield, coarse, march, jitter),
                              {origins.data(), directions.data(), static_cast<int64_t>(origins.shape(0))}, skip_weight,
                              {rgb.data(), depth.data(), median_depth.data(), acc.data()}, bytes(scratch),
                              scratch.shape(1));
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("table").noconvert(), nb::arg("density").noconvert(),
      nb::arg("color").noconvert(), nb::arg("origins").noconvert(), nb::arg("directions").noconvert(),
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), nb::arg("march"), nb::arg("jitter").none(),
      nb::arg("skip_weight"), nb::arg("scratch").noconvert(), nb::arg("rgb").noconvert(), nb::arg("depth").noconvert(),
      nb::arg("median_depth").noconvert(), nb::arg("acc").noconvert(), ReleaseGil());
  m.def(
      "fused_density",
      [](const Sizes& sizes, const Scales& scales, Table table, Params density, Params color, Rays positions,
         Scratch scratch, Array<float, 1> sigma) {
        backend::fused_density(field_of(sizes, scales, table, density, color), positions.data(), positions.shape(0),
                               sigma.data(), bytes(scratch), scratch.shape(1));
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("table").noconvert(), nb::arg("density").noconvert(),
      nb::arg("color").noconvert(), nb::arg("positions").noconvert(), nb::arg("scratch").noconvert(),
      nb::arg("sigma").noconvert(), ReleaseGil());
}

}  // namespace nf
