// SPDX-License-Identifier: Apache-2.0
// A warp per ray counts what is seen of it, the places are then those of march, and a thread per row of the output
// finds its ray by bisection: rays of very different lengths are read and written in whole sectors, whatever the
// capacity.
#include <algorithm>

#include "cuda/block_counts.h"
#include "cuda/ray_walk.h"
#include "ops/visible.h"

namespace nf::cuda {
namespace {

constexpr int kRaysPerBlock = kBlock / 32;

// packed_info[ray][1] receives the count.
__global__ void __launch_bounds__(kBlock) count_visible(PackedSamples<float> samples, int64_t* packed_info) {
  const int64_t ray = int64_t(blockIdx.x) * kRaysPerBlock + threadIdx.x / 32;
  if (ray >= samples.n_rays) return;
  const int64_t start = samples.packed_info[2 * ray], count = samples.packed_info[2 * ray + 1];
  int64_t end = start;
  if (samples.holds(start, count)) {
    Walk<float> walk{samples, start, start + count};
    Chunk<float> chunk;
    for (int64_t first = start; walk.step(&chunk); first = walk.next) {
      const unsigned seen = __ballot_sync(kWholeWarp, has_weight(chunk.weight));
      if (seen) end = first + 32 - __clz(static_cast<int>(seen));
    }
  }
  if (lane_index() == 0) packed_info[2 * ray + 1] = end - start;
}

// The ray that owns a row below counts[0]: the last that starts there or in front. Those without samples start where
// the next one does.
__device__ int64_t ray_of_row(const int64_t* packed_info, int64_t n_rays, int64_t row) {
  int64_t first = 0, end = n_rays;  // it lies in [first, end)
  while (end - first > 1) {
    const int64_t middle = (first + end) / 2;
    (packed_info[2 * middle] <= row ? first : end) = middle;
  }
  return first;
}

__global__ void __launch_bounds__(kBlock)
    write_visible(PackedSamples<float> samples, const int64_t* marched_counts, PackedOutput out) {
  const int64_t row = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (row == 0) {  // nothing else here reads or writes these two
    out.counts[1] += marched_counts[1];
    out.counts[2] = marched_counts[2];
  }
  if (row >= out.capacity) return;
  int64_t ray = 0;
  float t_start = 0, t_end = 0;
  if (row < out.counts[0]) {
    ray = ray_of_row(out.packed_info, samples.n_rays, row);
    const int64_t i = samples.packed_info[2 * ray] + row - out.packed_info[2 * ray];
    t_start = samples.t_starts[i];
    t_end = samples.t_ends[i];
  }
  out.ray_indices[row] = ray;
  out.t_starts[row] = t_start;
  out.t_ends[row] = t_end;
}

}  // namespace

int64_t visible_scratch_bytes(int64_t n_rays) { return 8 * blocks_for(n_rays); }

void visible_samples(const PackedSamples<float>& samples, const int64_t* marched_counts, const PackedOutput& out,
                     void* scratch) {
  const int64_t n_rays = samples.n_rays;
  int64_t* block_places = static_cast<int64_t*>(scratch);
  launch("visible: count", count_visible, Grid{blocks_for(n_rays, kRaysPerBlock)}, samples, out.packed_info);
  sum_blocks(n_rays, out.packed_info, block_places);
  assign_blocks(n_rays, out, block_places);
  assign_rays(n_rays, out, block_places);
  // one block at least, for the counts
  launch("visible: write", write_visible, Grid{std::max<int64_t>(1, blocks_for(out.capacity))}, samples, marched_counts,
         out);
}

}  // namespace nf::cuda
