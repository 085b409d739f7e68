// SPDX-License-Identifier: Apache-2.0
// A hierarchy of boxes over triangles, and what is asked of it. Nodes lie depth first: the left child follows its
// parent, `links` holds (right child, 0) or, of a leaf, (first triangle, number of triangles).
#pragma once

#include <cstdint>

namespace nf::cpu {

constexpr int kTrianglesPerLeaf = 4;

struct MeshTree {
  const float* boxes;      // [n_nodes, 6]
  const int32_t* links;    // [n_nodes, 2]
  const float* triangles;  // [n_triangles, 9], in the order of the leaves
};

// Fills boxes and links, which have room for 2 n_triangles nodes, and reorders `triangles` in place (n_triangles >= 1).
// Returns the number of nodes.
int64_t build_mesh_tree(float* triangles, int64_t n_triangles, float* boxes, int32_t* links);

void mesh_distance(const MeshTree& tree, const float* points, float* distance, int64_t n);

// inside[i] = 1 where the mean winding number of rays in evenly spread directions exceeds 1/2: 3 rays for a closed
// mesh, where all agree but for rounding, 32 for an open one, whose mean estimates the solid angle over 4 pi.
void mesh_inside(const MeshTree& tree, bool is_closed, const float* points, uint8_t* inside, int64_t n);

}  // namespace nf::cpu
