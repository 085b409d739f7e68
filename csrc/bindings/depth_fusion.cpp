// SPDX-License-Identifier: Apache-2.0
#include "ops/depth_fusion.h"

#include "bindings/camera.h"

namespace nf {

static DepthPictures depth_pictures(const Array<const float, 3>& c2w, const Array<const float, 2>& intrinsics,
                                    const Array<const float, 2>& distortion, const Array<const int64_t, 1>& models,
                                    const Array<const int64_t, 2>& sizes, const Array<const int64_t, 1>& starts,
                                    const Array<const float, 1>& depths) {
  return {camera_views<float>(c2w, intrinsics, distortion, models), sizes.data(), starts.data(), depths.data(),
          static_cast<int64_t>(sizes.shape(0))};
}

void bind_depth_fusion(nb::module_& m) {
  m.def(
      "fuse_depths",
      [](Array<const float, 3> c2w, Array<const float, 2> intrinsics, Array<const float, 2> distortion,
         Array<const int64_t, 1> models, Array<const int64_t, 2> sizes, Array<const int64_t, 1> starts,
         Array<const float, 1> depths, Array<const float, 2> points, float band, float sheet, Array<float, 1> distance,
         Array<uint8_t, 1> is_sheet) {
        backend::fuse_depths({depth_pictures(c2w, intrinsics, distortion, models, sizes, starts, depths), points.data(),
                              1 / band, sheet / band, distance.data(), is_sheet.data()},
                             static_cast<int64_t>(points.shape(0)));
      },
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("sizes").noconvert(), nb::arg("starts").noconvert(),
      nb::arg("depths").noconvert(), nb::arg("points").noconvert(), nb::arg("band"), nb::arg("sheet"),
      nb::arg("distance").noconvert(), nb::arg("is_sheet").noconvert(), ReleaseGil());
  m.def(
      "seen_in_depths",
      [](Array<const float, 3> c2w, Array<const float, 2> intrinsics, Array<const float, 2> distortion,
         Array<const int64_t, 1> models, Array<const int64_t, 2> sizes, Array<const int64_t, 1> starts,
         Array<const float, 1> depths, Array<const float, 2> points, float cell, float reach, bool in_front,
         Array<uint8_t, 1> seen) {
        backend::seen_in_depths({depth_pictures(c2w, intrinsics, distortion, models, sizes, starts, depths),
                                 points.data(), cell, reach, in_front, seen.data()},
                                static_cast<int64_t>(points.shape(0)));
      },
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("sizes").noconvert(), nb::arg("starts").noconvert(),
      nb::arg("depths").noconvert(), nb::arg("points").noconvert(), nb::arg("cell"), nb::arg("reach"),
      nb::arg("in_front"), nb::arg("seen").noconvert(), ReleaseGil());
}

}  // namespace nf
