// SPDX-License-Identifier: Apache-2.0
// Where a ray runs inside an axis-aligned box: slab method (Kay and Kajiya 1986). A direction component of zero leaves
// its axis unbounded when the origin lies within the slab (border included) and empties the interval otherwise, so no
// 0 * inf appears. Distances are those of the infinite line: t_near < 0 for an origin inside. Each bound is off by at
// most 2 roundings of |bound - origin| / |direction|.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"

namespace nf {

// Clips [*t_near, *t_far] to the box; a ray that misses gets t_near = +inf, t_far = -inf.
template <typename T>
NF_HD bool clip_to_aabb(const T* origin, const T* direction, const T* aabb, T* t_near, T* t_far) {
  bool hit = true;
  for (int axis = 0; axis < 3; ++axis) {
    const T low = aabb[axis] - origin[axis], high = aabb[axis + 3] - origin[axis];
    if (direction[axis] == T(0)) {
      hit = hit && low <= T(0) && high >= T(0);
      continue;
    }
    const T t_low = low / direction[axis], t_high = high / direction[axis];
    *t_near = max(*t_near, min(t_low, t_high));
    *t_far = min(*t_far, max(t_low, t_high));
  }
  if (hit && *t_near <= *t_far) return true;
  *t_near = T(INFINITY);
  *t_far = -T(INFINITY);
  return false;
}

template <typename T>
struct RayAabb {
  const T* origins;     // [n, 3]
  const T* directions;  // [n, 3]
  const T* aabb;        // [6] min x, y, z, max x, y, z
  T* t_near;            // [n]
  T* t_far;             // [n]
  NF_HD void operator()(int64_t i) const {
    t_near[i] = -T(INFINITY);
    t_far[i] = T(INFINITY);
    clip_to_aabb(origins + 3 * i, directions + 3 * i, aabb, t_near + i, t_far + i);
  }
};

}  // namespace nf
