// SPDX-License-Identifier: Apache-2.0
#include "bindings/camera.h"

#include "ops/camera.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "camera_rays",
      [](Array<const T, 3> c2w, Array<const T, 2> intrinsics, Array<const T, 2> distortion,
         Array<const int64_t, 1> models, Array<const int64_t, 1> view_idx, Array<const T, 2> pixel_xy,
         Array<T, 2> origins, Array<T, 2> directions) {
        backend::camera_rays(camera_views<T>(c2w, intrinsics, distortion, models), view_idx.data(), pixel_xy.data(),
                             static_cast<int64_t>(view_idx.shape(0)), origins.data(), directions.data());
      },
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("view_idx").noconvert(), nb::arg("pixel_xy").noconvert(),
      nb::arg("origins").noconvert(), nb::arg("directions").noconvert(), ReleaseGil());
  m.def(
      "project_points",
      [](Array<const T, 3> c2w, Array<const T, 2> intrinsics, Array<const T, 2> distortion,
         Array<const int64_t, 1> models, Array<const int64_t, 1> view_idx, Array<const T, 2> points,
         Array<T, 2> pixel_xy, Array<T, 1> depths) {
        backend::project_points(camera_views<T>(c2w, intrinsics, distortion, models), view_idx.data(), points.data(),
                                static_cast<int64_t>(view_idx.shape(0)), pixel_xy.data(), depths.data());
      },
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("view_idx").noconvert(), nb::arg("points").noconvert(),
      nb::arg("pixel_xy").noconvert(), nb::arg("depths").noconvert(), ReleaseGil());
}

void bind_camera(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
