// SPDX-License-Identifier: Apache-2.0
#include "ops/carve.h"

#include "bindings/camera.h"
#include "bindings/occupancy.h"

namespace nf {

static SeenViews seen_views(const Array<const float, 3>& c2w, const Array<const float, 2>& intrinsics,
                            const Array<const float, 2>& distortion, const Array<const int64_t, 1>& models,
                            const Array<const float, 2>& bounds, const Array<const int64_t, 2>& sizes) {
  return {camera_views<float>(c2w, intrinsics, distortion, models), bounds.data(), sizes.data()};
}

void bind_carve(nb::module_& m) {
  m.def(
      "carve",
      [](Array<const float, 3> c2w, Array<const float, 2> intrinsics, Array<const float, 2> distortion,
         Array<const int64_t, 1> models, Array<const float, 2> bounds, Array<const int64_t, 2> sizes,
         Array<const uint8_t, 1> opaque, Array<const int64_t, 1> starts, float margin, float closed,
         Array<float, 2> density_grid, Array<uint8_t, 1> scratch) {
        backend::carve(seen_views(c2w, intrinsics, distortion, models, bounds, sizes),
                       static_cast<int64_t>(sizes.shape(0)), {opaque.data(), starts.data()}, margin, closed,
                       static_cast<int32_t>(density_grid.shape(0)), log2_resolution(density_grid.shape(1)),
                       density_grid.data(), scratch.data());
      },
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("bounds").noconvert(), nb::arg("sizes").noconvert(),
      nb::arg("opaque").noconvert(), nb::arg("starts").noconvert(), nb::arg("margin"), nb::arg("closed"),
      nb::arg("density_grid").noconvert(), nb::arg("scratch").noconvert(), ReleaseGil());
  m.def("carve_scratch_bytes", &backend::carve_scratch_bytes, nb::arg("n_views"));
  m.def(
      "close_unseen",
      [](Array<const float, 3> c2w, Array<const float, 2> intrinsics, Array<const float, 2> distortion,
         Array<const int64_t, 1> models, Array<const float, 2> bounds, Array<const int64_t, 2> sizes, float closed,
         Array<float, 2> density_grid) {
        backend::close_unseen(seen_views(c2w, intrinsics, distortion, models, bounds, sizes),
                              static_cast<int64_t>(sizes.shape(0)), closed, static_cast<int32_t>(density_grid.shape(0)),
                              log2_resolution(density_grid.shape(1)), density_grid.data());
      },
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("bounds").noconvert(), nb::arg("sizes").noconvert(), nb::arg("closed"),
      nb::arg("density_grid").noconvert(), ReleaseGil());
  m.def(
      "mark_pixel_blocks",
      [](Array<const float, 3> c2w, Array<const float, 2> intrinsics, Array<const float, 2> distortion,
         Array<const int64_t, 1> models, Array<const float, 2> bounds, Array<const int64_t, 2> sizes,
         Array<const uint8_t, 2> bitfield, Array<const uint8_t, 2> coarse, Array<const int64_t, 1> block_starts,
         Array<uint8_t, 1> marks) {
        backend::mark_pixel_blocks(seen_views(c2w, intrinsics, distortion, models, bounds, sizes),
                                   static_cast<int64_t>(sizes.shape(0)), occupancy_view(bitfield, coarse),
                                   block_starts.data(), static_cast<int64_t>(marks.shape(0)), marks.data());
      },
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("bounds").noconvert(), nb::arg("sizes").noconvert(),
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), nb::arg("block_starts").noconvert(),
      nb::arg("marks").noconvert(), ReleaseGil());
}

}  // namespace nf
