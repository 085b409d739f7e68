// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "ops/depth_fusion.h"

namespace nf::cuda {

void fuse_depths(const FuseDepths& fuse, int64_t n) { for_each("fuse_depths", n, fuse); }

void seen_in_depths(const SeenInDepths& seen, int64_t n) { for_each("seen_in_depths", n, seen); }

}  // namespace nf::cuda
