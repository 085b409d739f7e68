// SPDX-License-Identifier: Apache-2.0
// One thread per ray, twice: the first pass counts the samples of each ray, a scan over the counts gives their places,
// the second pass writes them. The second starts at the first occupied step, so that empty space is crossed once.
#include "cuda/packed_output.h"
#include "cuda/padding.h"
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

__global__ void __launch_bounds__(kBlock) write_samples(Rays rays, PackedOutput out, Scratch scratch) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  const Place place = place_of_ray(out, rays.n, scratch.block_places);
  if (place.count == 0) return;
  RayMarch ray = rays.begin(i);
  ray.step = scratch.first_steps[i];
  for (int64_t s = place.start; s < place.start + place.count; ++s) {
    next_sample(rays.grid, rays.lattice, ray, out.t_starts + s, out.t_ends + s);
    out.ray_indices[s] = i;
  }
}

}  // namespace

int64_t march_scratch_bytes(int64_t n_rays) { return 8 * blocks_for(n_rays) + 4 * n_rays; }

void march(const OccupancyView& grid, const StepLattice& lattice, const MarchSettings& settings, const float* origins,
           const float* directions, int64_t n_rays, const PackedOutput& out, bool is_padded, void* bytes) {
  const Rays rays{grid, lattice, settings, origins, directions, n_rays};
  const Scratch scratch(bytes, n_rays);
  const int64_t n_blocks = blocks_for(n_rays);
  launch("march: count", count_samples, Grid{n_blocks}, rays, out.packed_info, scratch);
  assign_blocks(n_rays, out, scratch.block_places);
  launch("march: write", write_samples, Grid{n_blocks}, rays, out, scratch);
  if (is_padded) clear_behind(out);
}

}  // namespace nf::cuda
