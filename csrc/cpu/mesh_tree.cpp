// SPDX-License-Identifier: Apache-2.0
#include "cpu/mesh_tree.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "math/mesh_tree.h"

namespace nf::cpu {

namespace {

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

}  // namespace

int64_t build_mesh_tree(float* triangles, int64_t n_triangles, float* boxes, int32_t* links) {
  if (n_triangles > kMaxTriangles) throw std::invalid_argument("build_mesh_tree: too many triangles");
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

}  // namespace nf::cpu
