// SPDX-License-Identifier: Apache-2.0
#include "ops/mesh_distance.h"

#include "bindings/common.h"

namespace nf {

using Boxes = Array<const float, 2>;
using Links = Array<const int32_t, 2>;
using Triangles = Array<const float, 2>;

static MeshTree tree_of(const Boxes& boxes, const Links& links, const Triangles& triangles) {
  return {boxes.data(), links.data(), triangles.data()};
}

void bind_mesh_distance(nb::module_& m) {
  m.def(
      "mesh_distance",
      [](Boxes boxes, Links links, Triangles triangles, Array<const float, 2> points, Array<float, 1> distance) {
        backend::mesh_distance(tree_of(boxes, links, triangles), points.data(), distance.data(), points.shape(0));
      },
      nb::arg("boxes").noconvert(), nb::arg("links").noconvert(), nb::arg("triangles").noconvert(),
      nb::arg("points").noconvert(), nb::arg("distance").noconvert(), ReleaseGil());
  m.def(
      "mesh_inside",
      [](Boxes boxes, Links links, Triangles triangles, bool is_closed, Array<const float, 2> points,
         Array<uint8_t, 1> inside) {
        backend::mesh_inside(tree_of(boxes, links, triangles), is_closed, points.data(), inside.data(),
                             points.shape(0));
      },
      nb::arg("boxes").noconvert(), nb::arg("links").noconvert(), nb::arg("triangles").noconvert(),
      nb::arg("is_closed"), nb::arg("points").noconvert(), nb::arg("inside").noconvert(), ReleaseGil());
}

}  // namespace nf
