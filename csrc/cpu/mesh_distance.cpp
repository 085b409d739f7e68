// SPDX-License-Identifier: Apache-2.0
#include "ops/mesh_distance.h"

#include "core/parallel.h"

namespace nf::cpu {

constexpr int64_t kGrain = 256;

void mesh_distance(const MeshTree& tree, const float* points, float* distance, int64_t n) {
  parallel_for(n, MeshDistance{tree, points, distance}, kGrain);
}

void mesh_inside(const MeshTree& tree, bool is_closed, const float* points, uint8_t* inside, int64_t n) {
  parallel_for(n, MeshInside(tree, is_closed, points, inside), kGrain);
}

}  // namespace nf::cpu
