// SPDX-License-Identifier: Apache-2.0
#include "ops/visible.h"

#include <algorithm>

#include "core/parallel.h"
#include "cpu/packed_output.h"
#include "cpu/ray_walk.h"

namespace nf::cpu {
namespace {

constexpr int64_t kRaysPerTask = 64;

int64_t count_visible(const PackedSamples<float>& samples, int64_t ray) {
  const RayRange range = range_of("visible_samples", samples, ray);
  int64_t end = range.begin;
  VisibleWalk<float> walk;
  walk_ray(samples, range, walk, [&](int64_t i, float alpha) {
    if (walk.add(alpha)) end = i + 1;
  });
  return end - range.begin;
}

void write_visible(const PackedSamples<float>& samples, const PackedOutput& out, int64_t ray) {
  const int64_t from = samples.packed_info[2 * ray], to = out.packed_info[2 * ray], n = out.packed_info[2 * ray + 1];
  std::fill_n(out.ray_indices + to, n, ray);
  std::copy_n(samples.t_starts + from, n, out.t_starts + to);
  std::copy_n(samples.t_ends + from, n, out.t_ends + to);
}

}  // namespace

int64_t visible_scratch_bytes(int64_t) { return 0; }

void visible_samples(const PackedSamples<float>& samples, const int64_t* marched_counts, const PackedOutput& out,
                     void*) {
  const int64_t n_rays = samples.n_rays;
  parallel_for(n_rays, [&](int64_t ray) { out.packed_info[2 * ray + 1] = count_visible(samples, ray); }, kRaysPerTask);
  assign_places(n_rays, out);
  out.counts[1] += marched_counts[1];
  out.counts[2] = marched_counts[2];
  parallel_for(n_rays, [&](int64_t ray) { write_visible(samples, out, ray); }, kRaysPerTask);
  clear_behind(out);
}

}  // namespace nf::cpu
