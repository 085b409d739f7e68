// SPDX-License-Identifier: Apache-2.0
#include "ops/aabb.h"

#include "core/parallel.h"
#include "math/aabb.h"

namespace nf::cpu {

template <typename T>
void ray_aabb(const T* origins, const T* directions, const T* aabb, T* t_near, T* t_far, int64_t n) {
  parallel_for(n, RayAabb<T>{origins, directions, aabb, t_near, t_far});
}

template void ray_aabb(const float*, const float*, const float*, float*, float*, int64_t);
template void ray_aabb(const double*, const double*, const double*, double*, double*, int64_t);

}  // namespace nf::cpu
