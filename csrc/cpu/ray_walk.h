// SPDX-License-Identifier: Apache-2.0
// Along the samples of a ray, front to back, up to where it is opaque.
#pragma once

#include <stdexcept>
#include <string>

#include "core/simd.h"
#include "ops/composite.h"

namespace nf::cpu {

constexpr int64_t kChunk = 64;  // opacities computed ahead of the walk; most rays of a trained scene end within one

struct RayRange {
  int64_t begin, end;
};

template <typename T>
RayRange range_of(const char* op, const PackedSamples<T>& samples, int64_t ray) {
  const int64_t start = samples.packed_info[2 * ray], count = samples.packed_info[2 * ray + 1];
  if (!samples.holds(start, count))
    throw std::invalid_argument(std::string(op) + ": packed_info[" + std::to_string(ray) + "] is (start " +
                                std::to_string(start) + ", count " + std::to_string(count) + "), outside the " +
                                std::to_string(samples.n_samples) + " samples");
  return {start, start + count};
}

inline void opacities(const PackedSamples<float>& s, int64_t begin, int64_t n, float* alphas) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const vf delta = load(s.t_ends + begin + i) - load(s.t_starts + begin + i);
    store(alphas + i, opacity(load(s.sigmas + begin + i) * delta));
  }
  for (; i < n; ++i) alphas[i] = opacity(s.sigmas[begin + i] * s.delta(begin + i));
}
inline void opacities(const PackedSamples<double>& s, int64_t begin, int64_t n, double* alphas) {
  for (int64_t i = 0; i < n; ++i) alphas[i] = opacity(s.sigmas[begin + i] * s.delta(begin + i));
}

// Calls visit(sample, alpha) front to back until the ray ends or `walk`, which visit advances, is opaque.
template <typename T, typename Walk, typename Visit>
void walk_ray(const PackedSamples<T>& samples, RayRange range, const Walk& walk, const Visit& visit) {
  T alphas[kChunk];
  for (int64_t begin = range.begin; begin < range.end; begin += kChunk) {
    const int64_t n = range.end - begin < kChunk ? range.end - begin : kChunk;
    opacities(samples, begin, n, alphas);
    for (int64_t i = 0; i < n; ++i) {
      visit(begin + i, alphas[i]);
      if (walk.is_opaque(samples.stop_trans)) return;
    }
  }
}

}  // namespace nf::cpu
