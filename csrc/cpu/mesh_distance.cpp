// SPDX-License-Identifier: Apache-2.0
#include "cpu/mesh_distance.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "math/mesh_distance.h"

namespace nf::cpu {

namespace {

constexpr int kStack = 64;  // halving splits: the depth is at most 32 for 2^32 triangles
constexpr int64_t kGrain = 256;
constexpr int kRaysOpen = 32, kRaysClosed = 3;

struct Builder {
  float *triangles, *boxes;
  int32_t* links;
  std::vector<std::array<float, 3>> centers;
  std::vector<int32_t> order;
  int64_t n_nodes = 0;

  void box_of(int64_t begin, int64_t end, float* box) const {
    for (int k = 0; k < 3; ++k) {
      box[k] = INFINITY;
      box[k + 3] = -INFINITY;
    }
    for (int64_t i = begin; i < end; ++i)
      for (int corner = 0; corner < 9; ++corner) {
        const float x = triangles[9 * int64_t(order[i]) + corner];
        box[corner % 3] = std::min(box[corner % 3], x);
        box[corner % 3 + 3] = std::max(box[corner % 3 + 3], x);
      }
  }

  void build(int64_t begin, int64_t end) {
    const int64_t node = n_nodes++;
    float* box = boxes + 6 * node;
    box_of(begin, end, box);
    if (end - begin <= kTrianglesPerLeaf) {
      links[2 * node] = int32_t(begin);
      links[2 * node + 1] = int32_t(end - begin);
      return;
    }
    int axis = 0;
    for (int k = 1; k < 3; ++k)
      if (box[k + 3] - box[k] > box[axis + 3] - box[axis]) axis = k;
    const int64_t middle = (begin + end) / 2;
    std::nth_element(order.begin() + begin, order.begin() + middle, order.begin() + end, [&](int32_t a, int32_t b) {
      return centers[a][axis] != centers[b][axis] ? centers[a][axis] < centers[b][axis] : a < b;
    });
    build(begin, middle);
    links[2 * node] = int32_t(n_nodes);
    links[2 * node + 1] = 0;
    build(middle, end);
  }
};

float closest(const MeshTree& tree, const float* p) {
  struct Entry {
    float distance_sq;
    int32_t node;
  };
  Entry stack[kStack];
  int n = 0;
  float best = INFINITY;
  stack[n++] = {box_distance_sq(p, tree.boxes), 0};
  while (n > 0) {
    const Entry entry = stack[--n];
    if (entry.distance_sq >= best) continue;
    const int32_t first = tree.links[2 * entry.node], count = tree.links[2 * entry.node + 1];
    if (count > 0) {
      for (int32_t i = first; i < first + count; ++i)
        best = std::min(best, triangle_distance_sq(p, tree.triangles + 9 * int64_t(i)));
      continue;
    }
    Entry near{box_distance_sq(p, tree.boxes + 6 * int64_t(entry.node + 1)), entry.node + 1};
    Entry far{box_distance_sq(p, tree.boxes + 6 * int64_t(first)), first};
    if (far.distance_sq < near.distance_sq) std::swap(near, far);
    if (far.distance_sq < best) stack[n++] = far;
    if (near.distance_sq < best) stack[n++] = near;
  }
  return std::sqrt(best);
}

// Sum of the crossings of a ray: the winding number of a closed mesh.
int winding(const MeshTree& tree, const CrossingRay& ray) {
  int32_t stack[kStack];
  int n = 0, sum = 0;
  stack[n++] = 0;
  while (n > 0) {
    const int32_t node = stack[--n];
    if (!meets_box(ray, tree.boxes + 6 * int64_t(node))) continue;
    const int32_t first = tree.links[2 * node], count = tree.links[2 * node + 1];
    if (count == 0) {
      stack[n++] = first;
      stack[n++] = node + 1;
      continue;
    }
    for (int32_t i = first; i < first + count; ++i) sum += crossing(ray, tree.triangles + 9 * int64_t(i));
  }
  return sum;
}

// The k-th of n directions on a Fibonacci sphere.
void fibonacci(int k, int n, float* direction) {
  const double z = 1 - (2 * k + 1.0) / n, r = std::sqrt(1 - z * z), phi = (k + 0.37) * 2.399963229728653;
  direction[0] = float(r * std::cos(phi));
  direction[1] = float(r * std::sin(phi));
  direction[2] = float(z);
}

}  // namespace

int64_t build_mesh_tree(float* triangles, int64_t n_triangles, float* boxes, int32_t* links) {
  Builder builder{triangles, boxes, links, {}, {}};
  builder.centers.resize(n_triangles);
  builder.order.resize(n_triangles);
  for (int64_t i = 0; i < n_triangles; ++i) {
    builder.order[i] = int32_t(i);
    for (int k = 0; k < 3; ++k) {
      const float* t = triangles + 9 * i + k;
      builder.centers[i][k] = t[0] + t[3] + t[6];
    }
  }
  builder.build(0, n_triangles);
  const std::vector<float> before(triangles, triangles + 9 * n_triangles);
  for (int64_t i = 0; i < n_triangles; ++i)
    std::memcpy(triangles + 9 * i, before.data() + 9 * int64_t(builder.order[i]), 9 * sizeof(float));
  return builder.n_nodes;
}

void mesh_distance(const MeshTree& tree, const float* points, float* distance, int64_t n) {
  parallel_for(n, [&](int64_t i) { distance[i] = closest(tree, points + 3 * i); }, kGrain);
}

void mesh_inside(const MeshTree& tree, bool is_closed, const float* points, uint8_t* inside, int64_t n) {
  const int n_rays = is_closed ? kRaysClosed : kRaysOpen;
  std::vector<float> directions(3 * n_rays);
  for (int k = 0; k < n_rays; ++k) fibonacci(k, n_rays, directions.data() + 3 * k);
  const auto test = [&](int64_t i) {
    int sum = 0;
    for (int k = 0; k < n_rays; ++k) sum += winding(tree, CrossingRay(points + 3 * i, directions.data() + 3 * k));
    inside[i] = 2 * std::abs(sum) > n_rays;
  };
  parallel_for(n, test, kGrain);
}

}  // namespace nf::cpu
