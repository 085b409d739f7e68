// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "math/aabb.h"
#include "ops/aabb.h"

namespace nf::cuda {

template <typename T>
void ray_aabb(const T* origins, const T* directions, const T* aabb, T* t_near, T* t_far, int64_t n) {
  for_each("ray_aabb", n, RayAabb<T>{origins, directions, aabb, t_near, t_far});
}

template void ray_aabb(const float*, const float*, const float*, float*, float*, int64_t);
template void ray_aabb(const double*, const double*, const double*, double*, double*, int64_t);

}  // namespace nf::cuda
