// SPDX-License-Identifier: Apache-2.0
#include "cpu/mesh_tree.h"

#include "bindings/common.h"

namespace nf {

void bind_mesh_tree(nb::module_& m) {
  m.def(
      "build_mesh_tree",
      [](Array<float, 2> triangles, Array<float, 2> boxes, Array<int32_t, 2> links) {
        return cpu::build_mesh_tree(triangles.data(), triangles.shape(0), boxes.data(), links.data());
      },
      nb::arg("triangles").noconvert(), nb::arg("boxes").noconvert(), nb::arg("links").noconvert(), ReleaseGil());
}

}  // namespace nf
