// SPDX-License-Identifier: Apache-2.0
// A hierarchy of boxes over triangles (csrc/cpu/mesh_tree.h builds it), and what is asked of it: the nearest triangle,
// from near boxes to far ones, and the crossings of rays. Nodes lie depth first: the left child follows its parent.
// A walk takes the nearer or the left child at once and remembers the other one; neither the smallest distance nor a
// sum of crossings depends on the order, so all backends give the same bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"
#include "math/mesh_distance.h"

namespace nf {

constexpr int kTrianglesPerLeaf = 4;
// Every level of halving splits doubles what fits, and no walk remembers two nodes of a level.
constexpr int kMeshStack = 27;
constexpr int64_t kMaxTriangles = int64_t(kTrianglesPerLeaf) << kMeshStack;
static_assert(kMaxTriangles >= int64_t(1) << 29, "MAX_TRIANGLES of neurfield/ops/mesh_distance.py");

struct MeshTree {
  const float* boxes;      // [n_nodes, 6]: min x, y, z, max x, y, z
  const int32_t* links;    // [n_nodes, 2]: (right child, 0) or, of a leaf, (first triangle, number of triangles)
  const float* triangles;  // [n_triangles, 9], in the order of the leaves

  // Squared distance of p to the nearest triangle; infinite where p is NaN.
  NF_HD float distance_sq(const float* p) const {
    int32_t nodes[kMeshStack];
    float distances_sq[kMeshStack];
    int n = 0;
    int32_t node = 0;
    float node_sq = box_distance_sq(p, boxes), best = INFINITY;
    for (;;) {
      if (node_sq < best) {
        const int32_t first = links[2 * int64_t(node)], count = links[2 * int64_t(node) + 1];
        if (count == 0) {
          int32_t near = node + 1, far = first;
          float far_sq = box_distance_sq(p, boxes + 6 * int64_t(far));
          node_sq = box_distance_sq(p, boxes + 6 * int64_t(near));
          if (far_sq < node_sq) {
            const float nearer_sq = far_sq;
            far_sq = node_sq;
            node_sq = nearer_sq;
            far = near;
            near = first;
          }
          if (far_sq < best) {
            nodes[n] = far;
            distances_sq[n++] = far_sq;
          }
          node = near;
          continue;
        }
        for (int32_t i = first; i < first + count; ++i)
          best = min(best, triangle_distance_sq(p, triangles + 9 * int64_t(i)));
      }
      if (n == 0) return best;
      node = nodes[--n];
      node_sq = distances_sq[n];
    }
  }

  // Sum of the crossings of a ray: the winding number of a closed mesh.
  NF_HD int winding(const CrossingRay& ray) const {
    int32_t nodes[kMeshStack];
    int n = 0, sum = 0;
    int32_t node = 0;
    for (;;) {
      if (meets_box(ray, boxes + 6 * int64_t(node))) {
        const int32_t first = links[2 * int64_t(node)], count = links[2 * int64_t(node) + 1];
        if (count == 0) {
          nodes[n++] = first;
          ++node;
          continue;
        }
        for (int32_t i = first; i < first + count; ++i) sum += crossing(ray, triangles + 9 * int64_t(i));
      }
      if (n == 0) return sum;
      node = nodes[--n];
    }
  }
};

struct MeshDistance {
  MeshTree tree;
  const float* points;  // [n, 3]
  float* distance;      // [n]
  NF_HD void operator()(int64_t i) const { distance[i] = ::sqrtf(tree.distance_sq(points + 3 * i)); }
};

// inside[i] = 1 where the mean winding number of rays in evenly spread directions exceeds 1/2: 3 rays for a closed
// mesh, where all agree but for rounding, 32 for an open one, whose mean estimates the solid angle over 4 pi.
struct MeshInside {
  static constexpr int kRaysOpen = 32, kRaysClosed = 3;
  MeshTree tree;
  const float* points;  // [n, 3]
  uint8_t* inside;      // [n]
  int n_rays;
  float directions[3 * kRaysOpen];  // on a Fibonacci sphere

  MeshInside(const MeshTree& tree, bool is_closed, const float* points, uint8_t* inside)
      : tree(tree), points(points), inside(inside), n_rays(is_closed ? kRaysClosed : kRaysOpen) {
    for (int k = 0; k < n_rays; ++k) {
      const double z = 1 - (2 * k + 1.0) / n_rays, r = std::sqrt(1 - z * z), phi = (k + 0.37) * 2.399963229728653;
      directions[3 * k] = float(r * std::cos(phi));
      directions[3 * k + 1] = float(r * std::sin(phi));
      directions[3 * k + 2] = float(z);
    }
  }

  NF_HD void operator()(int64_t i) const {
    int sum = 0;
    for (int k = 0; k < n_rays; ++k) sum += tree.winding(CrossingRay(points + 3 * i, directions + 3 * k));
    inside[i] = 2 * (sum < 0 ? -sum : sum) > n_rays;
  }
};

}  // namespace nf
