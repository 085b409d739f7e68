// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "ops/mesh_distance.h"

namespace nf::cuda {

void mesh_distance(const MeshTree& tree, const float* points, float* distance, int64_t n) {
  for_each("mesh_distance", n, MeshDistance{tree, points, distance});
}

void mesh_inside(const MeshTree& tree, bool is_closed, const float* points, uint8_t* inside, int64_t n) {
  for_each("mesh_inside", n, MeshInside(tree, is_closed, points, inside));
}

}  // namespace nf::cuda
