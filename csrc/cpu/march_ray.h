// SPDX-License-Identifier: Apache-2.0
// The march of one ray on a CPU: kLanes consecutive steps are tested at once, empty blocks of 8^3 cells are skipped.
// Building block of the march operator and of the fused kernels, which take a few samples per ray and round.
#pragma once

#include "core/simd.h"
#include "math/march.h"

namespace nf::cpu {

namespace detail {

NF_HD vf lane_numbers() {
  vf lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(i);
  return lanes;
}

// One bit per lane of a mask whose lanes are 0 or -1.
NF_HD uint32_t mask_bits(vi mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps((__m128)mask));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(mask[i] & 1) << i;
  return bits;
#endif
}

// Steps of one ray that are tested together.
struct StepBlock {
  float t_starts[kLanes], t_ends[kLanes];
  uint32_t occupied;  // one bit per step
};

NF_HD StepBlock test_steps(const OccupancyView& grid, const StepLattice& lattice, const RayMarch& ray, vf lanes) {
  const vf steps = splat(static_cast<float>(ray.step)) + lanes;
  const vf t = lattice.distance(ray.start, steps);
  vf x[3];
  for (int axis = 0; axis < 3; ++axis) x[axis] = madd(t, splat(ray.direction[axis]), splat(ray.origin[axis]));
  vi cascade{};
  if (grid.n_cascades > 1) cascade = cascade_of(grid, x, lattice.step_length(t));
  const vi cell = cell_index(grid, x, cascade);
  const vi words = gather(reinterpret_cast<const int32_t*>(grid.bitfield), cell >> 5);
  const vi bit = words >> (cell & 31) & 1;
  StepBlock block;
  block.occupied = mask_bits((bit != 0) & (t < ray.t_far));
  store(block.t_starts, t);
  store(block.t_ends, lattice.distance(ray.start, steps + 1.0f));
  return block;
}

// Moves up to kLanes rays, all at once, to their first step in a block that is not empty, or to their ends. Only for
// one cascade and even steps.
inline void enter_lanes(const OccupancyView& grid, const StepLattice& lattice, RayMarch* rays, int n) {
  float origin[3][kLanes], direction[3][kLanes], inverse[3][kLanes], starts[kLanes], ends[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const RayMarch& ray = rays[l < n ? l : 0];
    for (int axis = 0; axis < 3; ++axis) {
      origin[axis][l] = ray.origin[axis];
      direction[axis][l] = ray.direction[axis];
      inverse[axis][l] = ray.inverse[axis];
    }
    starts[l] = ray.start;
    ends[l] = l < n ? ray.t_far : -INFINITY;
  }
  const vf start = load(starts), t_far = load(ends);
  vf d[3], inv[3];
  for (int axis = 0; axis < 3; ++axis) d[axis] = load(direction[axis]), inv[axis] = load(inverse[axis]);
  vi step{}, moving = splat(-1);
  for (;;) {
    const vf t = lattice.even_distance(start, to_float(step));
    moving &= (t < t_far) & (step < kMaxLatticeSteps);
    if (!any(moving)) break;
    vf x[3];
    vi cell[3];
    for (int axis = 0; axis < 3; ++axis) {
      x[axis] = madd(t, d[axis], load(origin[axis]));
      cell[axis] = cell_along(grid, x[axis], vi{});
    }
    const vi block = block_index(grid, cell, vi{}) & moving;  // 0 for rays that may be anywhere
    vi distance;
    for (int l = 0; l < kLanes; ++l) distance[l] = grid.coarse[block[l]];
    moving &= distance != 0;
    const vf t_exit = exit_of_blocks(grid, x, d, inv, t, t_far, cell, distance, vi{});
    step = select(moving, step_beyond(lattice.even_step_of(start, t_exit), step), step);
  }
  for (int l = 0; l < n; ++l) rays[l].step = step[l];
}

}  // namespace detail

// Moves fresh rays over the empty space in front of them: next_samples would do the same, one ray at a time.
inline void enter_rays(const OccupancyView& grid, const StepLattice& lattice, RayMarch* rays, int n) {
  if (grid.n_cascades > 1 || lattice.cone_angle > 0) return;
  for (int i = 0; i < n; i += kLanes) detail::enter_lanes(grid, lattice, rays + i, n - i < kLanes ? n - i : kLanes);
}

// Writes the next samples of the ray, at most n, and returns how many; fewer than n means that the ray has ended.
// Intervals are [t_starts[i], t_ends[i]). `bitfield` is read in 4-byte words.
inline int next_samples(const OccupancyView& grid, const StepLattice& lattice, RayMarch& ray, int n, float* t_starts,
                        float* t_ends) {
  int found = 0;
  const vf lanes = detail::lane_numbers();
  for (; ray.pending && found < n; ray.pending &= ray.pending - 1, ++found) {
    const int32_t step = ray.step - kLanes + __builtin_ctz(ray.pending);
    t_starts[found] = lattice.distance(ray.start, static_cast<float>(step));
    t_ends[found] = lattice.distance(ray.start, static_cast<float>(step + 1));
  }
  while (found < n) {
    const float t = lattice.distance(ray.start, static_cast<float>(ray.step));
    if (!(t < ray.t_far && ray.step < kMaxLatticeSteps)) break;
    float x[3];
    for (int axis = 0; axis < 3; ++axis) x[axis] = madd(t, ray.direction[axis], ray.origin[axis]);
    const int32_t cascade = cascade_of(grid, x, lattice.step_length(t));
    if (skip_empty_blocks(grid, lattice, ray, t, x, cascade)) continue;
    const detail::StepBlock block = detail::test_steps(grid, lattice, ray, lanes);
    ray.step += kLanes;
    for (ray.pending = block.occupied; ray.pending && found < n; ray.pending &= ray.pending - 1, ++found) {
      t_starts[found] = block.t_starts[__builtin_ctz(ray.pending)];
      t_ends[found] = block.t_ends[__builtin_ctz(ray.pending)];
    }
  }
  return found;
}

}  // namespace nf::cpu
