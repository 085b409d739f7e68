// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/depth_fusion.h"

namespace nf::NF_BACKEND {

void fuse_depths(const FuseDepths& fuse, int64_t n);

void seen_in_depths(const SeenInDepths& seen, int64_t n);

}  // namespace nf::NF_BACKEND
