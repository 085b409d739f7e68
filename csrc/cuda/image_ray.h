// SPDX-License-Identifier: Apache-2.0
// A ray as the thread that carries it sees it: where it is on its way and, of an image, what it has seen.
#pragma once

#include "math/composite.h"
#include "ops/fused_render.h"

namespace nf::cuda {

struct MarchedRay {
  int64_t index = -1;  // -1: none
  RayMarch march;
  int count;  // of samples met, or asked for by next()

  NF_DEVICE void begin(const FusedMarch& m, const FusedRays& rays, int64_t i) {
    index = i;
    march = begin_march(m.grid, m.lattice, rays.origins + 3 * i, rays.directions + 3 * i, m.near, m.far,
                        m.jitter ? march_jitter(m.jitter_stream, i) : 0.0f);
    count = 0;
  }
  // Of the next step; a ray with all the samples that it may have has ended.
  NF_DEVICE Tested test(const FusedMarch& m, float* t_start, float* t_end) {
    if (count == m.max_samples) return Tested::kEnd;
    const Tested tested = test_step(m.grid, m.lattice, march, t_start, t_end);
    count += tested == Tested::kSample;
    return tested;
  }
  // The next sample; false: there is none.
  NF_DEVICE bool next(const FusedMarch& m, float* t_start, float* t_end) {
    return count++ < m.max_samples && next_sample(m.grid, m.lattice, march, t_start, t_end);
  }
};

struct ImageRay : MarchedRay {
  CompositeForward<float> sum;
  float median;

  NF_DEVICE void begin(const FusedMarch& m, const FusedRays& rays, int64_t i) {
    MarchedRay::begin(m, rays, i);
    sum = CompositeForward<float>();
    median = INFINITY;
  }
  // Adds a sample, whose colour counts as black where it is not shaded; false: what lies behind it is not seen. As on
  // the CPU, an opacity of NaN ends the ray.
  NF_DEVICE bool add(const FusedMarch& m, float alpha, const float (&rgb)[3], bool is_shaded, float t) {
    const CompositeForward<float> before = sum;
    sum.add(alpha, rgb[0], rgb[1], rgb[2], t);
    if (!is_shaded) sum.r = before.r, sum.g = before.g, sum.b = before.b;
    if (sum.trans < 0.5f && median == INFINITY) median = t;
    return sum.trans >= m.stop_trans;
  }
  NF_DEVICE void finish(const FusedImage& image) {
    image.rgb[3 * index] = sum.r;
    image.rgb[3 * index + 1] = sum.g;
    image.rgb[3 * index + 2] = sum.b;
    image.depth[index] = sum.depth;
    image.median_depth[index] = median;
    image.acc[index] = sum.acc;
    index = -1;
  }
};

}  // namespace nf::cuda
