// SPDX-License-Identifier: Apache-2.0
// Eight lanes of a warp march a ray together: each tests one of eight consecutive steps, and the farthest of the steps
// that they may go on at is where they all go on. So a ray has an eighth of the iterations, lanes that wait for a
// longer ray are fewer, and neighbouring samples are written by neighbouring lanes. Twice: the first pass counts the
// samples of each ray, a scan over the counts gives their places, the second pass writes them; it starts at the first
// occupied step.
#include "cuda/block_counts.h"
#include "cuda/padding.h"
#include "cuda/warp.h"
#include "ops/march.h"

namespace nf::cuda {
namespace {

constexpr int kLanes = 8;  // of a ray
constexpr int kRays = kBlock / kLanes;

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
  int64_t* block_places;  // [n_blocks] samples of each block of kBlock rays; then the place of its first
  int32_t* first_steps;   // [n_rays] the first occupied step
  Scratch(void* bytes, int64_t n_rays)
      : block_places(static_cast<int64_t*>(bytes)),
        first_steps(reinterpret_cast<int32_t*>(block_places + blocks_for(n_rays))) {}
};

__device__ int64_t ray_of_lane() { return int64_t(blockIdx.x) * kRays + threadIdx.x / kLanes; }
__device__ int lane_of_ray() { return static_cast<int>(threadIdx.x) % kLanes; }

// What the lanes of a ray have found in its next kLanes steps.
struct Found {
  unsigned lanes;        // bits: those with a sample
  float t_start, t_end;  // this lane's, if it is among them
};

// Tests them and moves the ray on; one that ends goes off. All lanes of the warp take part.
__device__ Found test_steps(const Rays& rays, RayMarch& ray, bool& is_on) {
  Found found;
  RayMarch ahead = ray;
  ahead.step += lane_of_ray();
  Tested tested = Tested::kEnd;
  if (is_on) tested = test_step(rays.grid, rays.lattice, ahead, &found.t_start, &found.t_end);
  const auto of_ray = [](bool predicate) {
    return __ballot_sync(kWholeWarp, predicate) >> (lane_index() - lane_of_ray()) & ((1u << kLanes) - 1);
  };
  found.lanes = of_ray(tested == Tested::kSample);
  const bool has_ended = of_ray(tested == Tested::kEnd) != 0;  // not behind &&: all lanes must be asked
  is_on = is_on && !has_ended;
  int32_t next = ahead.step;
  for (int offset = 1; offset < kLanes; offset *= 2) next = max(next, __shfl_xor_sync(kWholeWarp, next, offset));
  ray.step = next;
  return found;
}

// packed_info[ray][1] receives the count.
__global__ void __launch_bounds__(kBlock) count_samples(Rays rays, int64_t* packed_info, Scratch scratch) {
  const int64_t i = ray_of_lane();
  const bool exists = i < rays.n;
  RayMarch ray{};
  if (exists) ray = rays.begin(i);
  int32_t count = 0, first = 0;
  for (bool is_on = exists; __any_sync(kWholeWarp, is_on);) {
    const int32_t step = ray.step;
    const unsigned lanes = test_steps(rays, ray, is_on).lanes;
    if (count == 0 && lanes != 0) first = step + __ffs(static_cast<int>(lanes)) - 1;
    count = min(count + __popc(lanes), rays.settings.max_samples);
    if (count == rays.settings.max_samples) is_on = false;
  }
  if (!exists || lane_of_ray() != 0) return;
  packed_info[2 * i + 1] = count;
  scratch.first_steps[i] = first;
}

__global__ void __launch_bounds__(kBlock) write_samples(Rays rays, PackedOutput out, const int32_t* first_steps) {
  const int64_t i = ray_of_lane();
  int64_t start = 0, count = 0;
  if (i < rays.n) start = out.packed_info[2 * i], count = out.packed_info[2 * i + 1];
  bool is_on = count > 0;
  RayMarch ray{};
  if (is_on) {
    ray = rays.begin(i);
    ray.step = first_steps[i];
  }
  for (int64_t written = 0; __any_sync(kWholeWarp, is_on);) {
    const Found found = test_steps(rays, ray, is_on);
    const int lane = lane_of_ray();
    const int64_t place = written + __popc(found.lanes & ((1u << lane) - 1));
    if (found.lanes >> lane & 1 && place < count) {
      out.ray_indices[start + place] = i;
      out.t_starts[start + place] = found.t_start;
      out.t_ends[start + place] = found.t_end;
    }
    written += __popc(found.lanes);
    if (written >= count) is_on = false;
  }
}

}  // namespace

int64_t march_scratch_bytes(int64_t n_rays) { return 8 * blocks_for(n_rays) + 4 * n_rays; }

void march(const OccupancyView& grid, const StepLattice& lattice, const MarchSettings& settings, const float* origins,
           const float* directions, int64_t n_rays, const PackedOutput& out, bool is_padded, void* bytes) {
  const Rays rays{grid, lattice, settings, origins, directions, n_rays};
  const Scratch scratch(bytes, n_rays);
  const int64_t n_blocks = blocks_for(n_rays), n_groups = blocks_for(n_rays, kRays);
  launch("march: count", count_samples, Grid{n_groups}, rays, out.packed_info, scratch);
  sum_blocks(n_rays, out.packed_info, scratch.block_places);
  assign_blocks(n_rays, out, scratch.block_places);
  assign_rays(n_rays, out, scratch.block_places);
  launch("march: write", write_samples, Grid{n_groups}, rays, out, scratch.first_steps);
  if (is_padded) clear_behind(out);
}

}  // namespace nf::cuda
