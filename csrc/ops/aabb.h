// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf::NF_BACKEND {

template <typename T>
void ray_aabb(const T* origins, const T* directions, const T* aabb, T* t_near, T* t_far, int64_t n);

}  // namespace nf::NF_BACKEND
