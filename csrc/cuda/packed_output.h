// SPDX-License-Identifier: Apache-2.0
// Where the samples of each ray go in a packed output: kernels leave their number in packed_info[ray][1] and the sum of
// each block of kBlock rays; the sums are scanned, and each block scans its own rays again from its place on.
#pragma once

#include "cuda/scan.h"
#include "ops/march.h"

namespace nf::cuda {

// Largest value of a block's threads, at least 0.
__device__ inline int64_t block_maximum(int64_t value) {
  __shared__ unsigned long long largest;
  __syncthreads();  // an earlier call may still be read
  if (threadIdx.x == 0) largest = 0;
  __syncthreads();
  atomicMax(&largest, static_cast<unsigned long long>(value));
  __syncthreads();
  return static_cast<int64_t>(largest);
}

// One block: counts[0], the samples of the leading rays that fit, once counts[2], those of all rays, is known. Where
// they do not all fit, the block of rays in which the capacity ends is scanned.
static __global__ void __launch_bounds__(kBlock)
    count_kept(const int64_t* packed_info, const int64_t* block_places, int64_t n_rays, int64_t n_blocks,
               int64_t capacity, int64_t* counts) {
  int64_t kept = counts[2];
  if (kept > capacity) {
    int64_t last = 0;  // block whose first sample fits
    for (int64_t b = threadIdx.x; b < n_blocks; b += kBlock)
      if (block_places[b] <= capacity) last = b;
    last = block_maximum(last);
    const int64_t i = last * kBlock + threadIdx.x, count = i < n_rays ? packed_info[2 * i + 1] : 0;
    int64_t total;
    const int64_t end = block_places[last] + block_exclusive_sum<kBlock>(count, &total) + count;
    kept = block_maximum(end <= capacity ? end : block_places[last]);
  }
  if (threadIdx.x == 0) {
    counts[0] = kept;
    counts[1] = 0;
  }
}

// Turns sums of blocks of rays into the places of their first samples, and fills `counts` but for counts[1].
inline void assign_blocks(int64_t n_rays, const PackedOutput& out, int64_t* block_places) {
  const int64_t n_blocks = blocks_for(n_rays);
  scan_sums(block_places, n_blocks, out.counts + 2);
  launch("packed: capacity", count_kept, Grid{1}, out.packed_info, block_places, n_rays, n_blocks, out.capacity,
         out.counts);
}

// Of the samples of this thread's ray, of a grid of kBlock threads; none if there is no ray or no room.
struct Place {
  int64_t start, count;
};

// Fills packed_info and counts rays without room. Every thread of the block takes part.
__device__ inline Place place_of_ray(const PackedOutput& out, int64_t n_rays, const int64_t* block_places) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  const int64_t count = i < n_rays ? out.packed_info[2 * i + 1] : 0;
  int64_t total;
  const int64_t start = block_places[blockIdx.x] + block_exclusive_sum<kBlock>(count, &total);
  const bool kept = start + count <= out.capacity;
  const int n_dropped = __syncthreads_count(!kept && count > 0);
  if (threadIdx.x == 0 && n_dropped > 0)
    atomicAdd(reinterpret_cast<unsigned long long*>(out.counts + 1), static_cast<unsigned long long>(n_dropped));
  if (i >= n_rays) return {0, 0};
  out.packed_info[2 * i] = kept ? start : out.counts[0];
  if (!kept) out.packed_info[2 * i + 1] = 0;
  return {start, kept ? count : 0};
}

static __global__ void __launch_bounds__(kBlock)
    place_rays(PackedOutput out, int64_t n_rays, const int64_t* block_places) {
  place_of_ray(out, n_rays, block_places);
}

// Fills packed_info for kernels whose threads are not the rays.
inline void assign_rays(int64_t n_rays, const PackedOutput& out, const int64_t* block_places) {
  launch("packed: places", place_rays, Grid{blocks_for(n_rays)}, out, n_rays, block_places);
}

}  // namespace nf::cuda
