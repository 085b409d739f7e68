// SPDX-License-Identifier: Apache-2.0
// Ray marching through an occupancy grid (Mueller et al. 2022, appendix E.1, in its exact exponential form).
//
// A ray carries a lattice of steps t_0 < t_1 < ...; the samples are those steps whose cell is occupied, each at the
// START of its interval [t_i, t_{i+1}). t_i is a pure function of (start, i), so that skipping empty space cannot leave
// the lattice: skipped and stepped rays give the same samples bit for bit.
//   cone angle c = 0:  t_i = t_0 + i * dt_min
//   c > 0:             t_i = t(n(t_0) + i); n(t) counts steps: constant dt_min up to t_a = dt_min / ln(1 + c), then
//                      dt = c t exactly, constant dt_max beyond t_b = dt_max / ln(1 + c).
// dt_min = step_scale * sqrt(3) / 1024, dt_max = sqrt(3). Float error of t_i: 4 roundings of t, plus 6 of |n| * dt
// (|n| < 2000) for c > 0.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/rng.h"
#include "core/scalar.h"
#include "math/aabb.h"
#include "math/exponential.h"
#include "math/occupancy.h"

namespace nf {

constexpr float kBaseStep = 1.6914558667664816e-3f;  // sqrt(3) / 1024
constexpr float kLargestStep = 1.7320508075688772f;  // sqrt(3)
constexpr int32_t kMaxLatticeSteps = 1 << 22;        // ends rays whose direction is far from unit length
constexpr uint32_t kMarchStream = 1;                 // of random_stream

struct StepLattice {
  float dt_min, dt_max, cone_angle;
  float steps_per_unit;  // 1 / dt_min
  float lambda;          // ln(1 + c)
  float t_a, t_b;        // borders of the range with dt = c t
  float n_a, n_b;        // their step counts

  // Host side; step_scale > 0, cone_angle >= 0.
  static StepLattice make(float step_scale, float cone_angle) {
    StepLattice s{};
    s.dt_min = kBaseStep * step_scale;
    s.dt_max = max(kLargestStep, s.dt_min);
    s.cone_angle = cone_angle;
    s.steps_per_unit = 1 / s.dt_min;
    if (cone_angle <= 0) return s;
    const double lambda = std::log1p(static_cast<double>(cone_angle));
    s.lambda = static_cast<float>(lambda);
    s.t_a = static_cast<float>(s.dt_min / lambda);
    s.t_b = static_cast<float>(s.dt_max / lambda);
    s.n_a = static_cast<float>(std::log(s.dt_min / lambda) / lambda);
    s.n_b = static_cast<float>(std::log(s.dt_max / lambda) / lambda);
    return s;
  }

  // n(t), only for c > 0
  NF_HD float count(float t) const {
    if (t <= t_a) return (t - t_a) / dt_min + n_a;
    if (t >= t_b) return (t - t_b) / dt_max + n_b;
    return logarithm(t) / lambda;
  }

  // What step 0 of a ray is described by: its distance (c = 0) or its step count, advanced by `jitter` steps.
  NF_HD float start(float t, float jitter) const {
    return cone_angle > 0 ? count(t) + jitter : madd(jitter, dt_min, t);
  }

  // Distance of step i (a float or vf that holds an integer); only for c = 0.
  template <typename V>
  NF_HD V even_distance(V start, V i) const {
    return madd(i, detail::broadcast(dt_min, i), start);
  }
  template <typename V>
  NF_HD V distance(float start, V i) const {
    const auto c = [i](float v) { return detail::broadcast(v, i); };
    if (!(cone_angle > 0)) return even_distance(c(start), i);
    const V n = c(start) + i;
    const V middle = exponential(n * c(lambda));
    const V low = madd(n - c(n_a), c(dt_min), c(t_a)), high = madd(n - c(n_b), c(dt_max), c(t_b));
    return detail::select(n <= c(n_a), low, detail::select(n >= c(n_b), high, middle));
  }

  // Step of a ray at distance t, as a real number; only for c = 0.
  template <typename V>
  NF_HD V even_step_of(V start, V t) const {
    return (t - start) * detail::broadcast(steps_per_unit, t);
  }
  NF_HD float step_of(float start, float t) const { return cone_angle > 0 ? count(t) - start : even_step_of(start, t); }

  // Length of the step at distance t by its formula; equals the lattice's but for the two steps that hold t_a or t_b.
  template <typename V>
  NF_HD V step_length(V t) const {
    const auto c = [t](float v) { return detail::broadcast(v, t); };
    return cone_angle > 0 ? min(max(t * c(cone_angle), c(dt_min)), c(dt_max)) : c(dt_min);
  }
};

// One ray on its way; what a resumed march needs.
struct RayMarch {
  float origin[3], direction[3];
  float inverse[3];      // 1 / direction, -inf for zero
  float start;           // of the lattice
  float t_far;           // samples have t < t_far
  int32_t step;          // next step to be tested
  uint32_t pending = 0;  // occupied steps already found by a block test: bit b is step - kLanes + b (cpu/march_ray.h)
};

// Jitter of a ray in [0, 1) steps.
NF_HD float march_jitter(uint64_t stream, int64_t ray) { return random_uniform(stream, static_cast<uint64_t>(ray), 0); }

// Places a ray at its first step inside of the box (side 2^(n_cascades - 1) around 0.5) and beyond `near`.
// A ray that misses has t_far = -inf and yields nothing; so does one with components that are not finite or a direction
// of zero.
NF_HD RayMarch begin_march(const OccupancyView& grid, const StepLattice& lattice, const float* origin,
                           const float* direction, float near, float far, float jitter) {
  const float half = 0.5f * static_cast<float>(1 << (grid.n_cascades - 1));
  const float aabb[6] = {0.5f - half, 0.5f - half, 0.5f - half, 0.5f + half, 0.5f + half, 0.5f + half};
  RayMarch ray;
  float t_near = max(near, 0.0f), t_far = far;
  clip_to_aabb(origin, direction, aabb, &t_near, &t_far);
  float sum = 0;
  for (int axis = 0; axis < 3; ++axis) sum += ::fabsf(origin[axis]) + ::fabsf(direction[axis]);
  if (!(sum < INFINITY && t_far < INFINITY)) t_near = 0, t_far = -INFINITY;
  for (int axis = 0; axis < 3; ++axis) {
    ray.origin[axis] = origin[axis];
    ray.direction[axis] = direction[axis];
    ray.inverse[axis] = direction[axis] == 0 ? -INFINITY : 1 / direction[axis];
  }
  ray.start = lattice.start(t_near, jitter);
  ray.t_far = t_far;
  ray.step = 0;
  return ray;
}

// Distance at which a ray at t, in `cell` of `cascade` at position x, leaves the empty blocks around that cell; at most
// t_far.
template <typename V, typename I>
NF_HD V exit_of_blocks(const OccupancyView& grid, const V* x, const V* direction, const V* inverse, V t, V t_far,
                       const I* cell, I distance, I cascade) {
  const auto whole = [t](int32_t v) { return detail::broadcast_int(v, t); };
  const V cell_width = detail::float_of_bits((cascade + whole(127 - grid.log2_resolution)) << 23);
  V t_exit = t_far;
  for (int axis = 0; axis < 3; ++axis) {
    const I corner = cell[axis] & whole(-kCoarseWidth);
    const I ahead = min(corner + distance * kCoarseWidth, whole(grid.resolution()));
    const I behind = max(corner - (distance - 1) * kCoarseWidth, whole(0));
    const I border = detail::select(direction[axis] > detail::broadcast(0.0f, t), ahead, behind);
    const V cells_ahead = detail::number_of(border) - cell_coordinate(grid, x[axis], cascade);
    const V t_plane = madd(cells_ahead * cell_width, inverse[axis], t);
    t_exit = detail::select(t_plane < t_exit, t_plane, t_exit);  // false for a direction of zero: inf or NaN
  }
  return t_exit;
}

// Number of the first step that may lie beyond the real step `exit`. A sixteenth of a step covers the rounding of the
// exit: a step outside of the blocks is never skipped, one inside may be tested.
template <typename V, typename I>
NF_HD I step_beyond(V exit, I step) {
  return max(step + 1, detail::truncate(min(exit + 0.9375f, detail::broadcast(1e9f, exit))));
}

// If the block of 8^3 cells around step `ray.step` (at distance t, position x, tested in `cascade`) is empty, moves the
// ray to the first step that may lie outside of the empty blocks around it and returns true. Climbs to coarser cascades
// while their block is empty.
NF_HD bool skip_empty_blocks(const OccupancyView& grid, const StepLattice& lattice, RayMarch& ray, float t,
                             const float* x, int32_t cascade) {
  int32_t cell[3];
  for (int axis = 0; axis < 3; ++axis) cell[axis] = cell_along(grid, x[axis], cascade);
  int32_t distance = grid.coarse[block_index(grid, cell, cascade)];
  if (distance == 0) return false;
  while (cascade + 1 < grid.n_cascades) {
    int32_t above[3];
    for (int axis = 0; axis < 3; ++axis) above[axis] = cell_along(grid, x[axis], cascade + 1);
    const int32_t distance_above = grid.coarse[block_index(grid, above, cascade + 1)];
    if (distance_above == 0) break;
    for (int axis = 0; axis < 3; ++axis) cell[axis] = above[axis];
    distance = distance_above;
    ++cascade;
  }
  float t_exit = exit_of_blocks(grid, x, ray.direction, ray.inverse, t, ray.t_far, cell, distance, cascade);
  // Where the step grows past half a cell of this cascade, samples are tested in a coarser one.
  if (lattice.cone_angle > 0 && cascade + 1 < grid.n_cascades) {
    const float cell_width = detail::float_of_bits((127 - grid.log2_resolution + cascade) << 23);
    t_exit = min(t_exit, cell_width / (2 * lattice.cone_angle));
  }
  ray.step = step_beyond(lattice.step_of(ray.start, t_exit), ray.step);
  return true;
}

// What a test of a ray's next step finds.
enum class Tested { kNothing, kSample, kEnd };

// Tests the next step of a ray and moves it on, over empty blocks where it is in them: nothing is there, or a sample
// with its interval, or the ray has ended.
NF_HD Tested test_step(const OccupancyView& grid, const StepLattice& lattice, RayMarch& ray, float* t_start,
                       float* t_end) {
  const float t = lattice.distance(ray.start, static_cast<float>(ray.step));
  if (!(t < ray.t_far && ray.step < kMaxLatticeSteps)) return Tested::kEnd;
  float x[3];
  for (int axis = 0; axis < 3; ++axis) x[axis] = madd(t, ray.direction[axis], ray.origin[axis]);
  const int32_t cascade = cascade_of(grid, x, lattice.step_length(t));
  if (skip_empty_blocks(grid, lattice, ray, t, x, cascade)) return Tested::kNothing;
  ++ray.step;
  if (!is_occupied(grid, cell_index(grid, x, cascade))) return Tested::kNothing;
  *t_start = t;
  *t_end = lattice.distance(ray.start, static_cast<float>(ray.step));
  return Tested::kSample;
}

// Finds the next sample of the ray: true and its interval, or false at the end. One step per test: the form for one
// thread per ray; cpu/march_ray.h tests several steps at once and gives the same samples.
NF_HD bool next_sample(const OccupancyView& grid, const StepLattice& lattice, RayMarch& ray, float* t_start,
                       float* t_end) {
  for (;;) {
    const Tested tested = test_step(grid, lattice, ray, t_start, t_end);
    if (tested != Tested::kNothing) return tested == Tested::kSample;
  }
}

}  // namespace nf
