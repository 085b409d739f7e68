// SPDX-License-Identifier: Apache-2.0
// Builds the tree that csrc/math/mesh_tree.h walks. CUDA tensors get theirs from here, too: it is built once.
#pragma once

#include <cstdint>

namespace nf::cpu {

// Fills boxes and links, which have room for 2 n_triangles nodes, and reorders `triangles` in place (n_triangles >= 1).
// Returns the number of nodes. Throws std::invalid_argument for more triangles than a walk can remember nodes of.
int64_t build_mesh_tree(float* triangles, int64_t n_triangles, float* boxes, int32_t* links);

}  // namespace nf::cpu
