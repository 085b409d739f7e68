// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/mesh_tree.h"

namespace nf::NF_BACKEND {

void mesh_distance(const MeshTree& tree, const float* points, float* distance, int64_t n);

void mesh_inside(const MeshTree& tree, bool is_closed, const float* points, uint8_t* inside, int64_t n);

}  // namespace nf::NF_BACKEND
