// SPDX-License-Identifier: Apache-2.0
// One thread per ray, twice: the first pass counts the samples of each ray, a scan over the counts gives their places,
// the second pass writes them. The second starts at the first occupied step, so that empty space is crossed once.
#include "cuda/scan.h"
#include "ops/march.h"

namespace nf::cuda {
namespace {

struct Rays {
  OccupancyView grid;
  StepLattice lattice;
  MarchSettings settings;
  const float *origins, *directions;  // [n, 3]
  int64_t n;

  __device__ RayMarch begin(int64_t i) const {
    const float jitter = settings.jitter ? march_jitter(settings.stream, i) : 0.0f;
    return begin_march(grid, lattice, origins + 3 * i, directions + 3 * i, settings.near, settings.far, jitter);
  }
};

// What the passes hand on.
struct Scratch {
  int64_t* block_places;  // [n_blocks] samples of each block of rays; then the place of its first
  int32_t* first_steps;   // [n_rays] the first occupied step
  Scratch(void* bytes, int64_t n_rays)
      : block_places(static_cast<int64_t*>(bytes)),
        first_steps(reinterpret_cast<int32_t*>(block_places + blocks_for(n_rays))) {}
};

// packed_info[ray][1] receives the count.
__global__ void __launch_bounds__(kBlock) count_samples(Rays rays, int64_t* packed_info, Scratch scratch) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  int32_t count = 0, first = 0;
  if (i < rays.n) {
    RayMarch ray = rays.begin(i);
    float t_start, t_end;
    for (; count < rays.settings.max_samples; ++count) {
      if (!next_sample(rays.grid, rays.lattice, ray, &t_start, &t_end)) break;
      if (count == 0) first = ray.step - 1;
    }
    packed_info[2 * i + 1] = count;
    scratch.first_steps[i] = first;
  }
  int64_t total;
  block_exclusive_sum<kBlock>(count, &total);
  if (threadIdx.x == 0) scratch.block_places[blockIdx.x] = total;
}

// Largest value of a block's threads, at least 0.
__device__ int64_t block_maximum(int64_t value) {
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
__global__ void __launch_bounds__(kBlock)
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

__global__ void __launch_bounds__(kBlock) write_samples(Rays rays, PackedOutput out, Scratch scratch) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  const int64_t count = i < rays.n ? out.packed_info[2 * i + 1] : 0;
  int64_t total;
  const int64_t start = scratch.block_places[blockIdx.x] + block_exclusive_sum<kBlock>(count, &total);
  const bool kept = start + count <= out.capacity;
  const int n_dropped = __syncthreads_count(!kept && count > 0);
  if (threadIdx.x == 0 && n_dropped > 0)
    atomicAdd(reinterpret_cast<unsigned long long*>(out.counts + 1), static_cast<unsigned long long>(n_dropped));
  if (i >= rays.n) return;
  out.packed_info[2 * i] = kept ? start : out.counts[0];
  if (!kept) out.packed_info[2 * i + 1] = 0;
  if (!kept || count == 0) return;
  RayMarch ray = rays.begin(i);
  ray.step = scratch.first_steps[i];
  for (int64_t s = start; s < start + count; ++s) {
    next_sample(rays.grid, rays.lattice, ray, out.t_starts + s, out.t_ends + s);
    out.ray_indices[s] = i;
  }
}

}  // namespace

int64_t march_scratch_bytes(int64_t n_rays) { return 8 * blocks_for(n_rays) + 4 * n_rays; }

void march(const OccupancyView& grid, const StepLattice& lattice, const MarchSettings& settings, const float* origins,
           const float* directions, int64_t n_rays, const PackedOutput& out, void* bytes) {
  const Rays rays{grid, lattice, settings, origins, directions, n_rays};
  const Scratch scratch(bytes, n_rays);
  const int64_t n_blocks = blocks_for(n_rays);
  launch("march: count", count_samples, Grid{n_blocks}, rays, out.packed_info, scratch);
  scan_sums(scratch.block_places, n_blocks, out.counts + 2);
  launch("march: capacity", count_kept, Grid{1}, out.packed_info, scratch.block_places, n_rays, n_blocks, out.capacity,
         out.counts);
  launch("march: write", write_samples, Grid{n_blocks}, rays, out, scratch);
}

}  // namespace nf::cuda
