// SPDX-License-Identifier: Apache-2.0
// Opacity near its limits, and packed compositing against plain loops on buffers that end with the last sample.
#include <cmath>
#include <stdexcept>
#include <utility>

#include "check.h"
#include "math/composite.h"
#include "ops/composite.h"

using namespace nf;

static void test_opacity() {
  for (double exponent = -30; exponent < 6; exponent += 0.001) {
    const float tau = static_cast<float>(std::exp(exponent));
    const double expected = -std::expm1(-double(tau));
    CHECK(std::fabs(opacity(tau) - expected) <= 2 * 0x1p-24 * expected);
    const vf lanes = opacity(splat(tau));
    for (int i = 0; i < kLanes; ++i) CHECK(lanes[i] == opacity(tau));
  }
  CHECK(opacity(0.0f) == 0.0f && opacity(INFINITY) == 1.0f && opacity(1e30f) == 1.0f);
  CHECK(std::isnan(opacity(NAN)));
}

struct Rays {
  std::vector<float> sigmas, rgbs, t_starts, t_ends;
  std::vector<int64_t> packed_info;
  std::vector<float> rgb, depth, acc, weights, distortion;

  explicit Rays(const std::vector<int64_t>& counts) {
    int64_t n = 0;
    for (int64_t count : counts) {
      packed_info.insert(packed_info.end(), {n, count});
      for (int64_t i = 0; i < count; ++i) {
        t_starts.push_back(0.5f + 0.02f * i);
        t_ends.push_back(0.515f + 0.02f * i);
      }
      n += count;
    }
    sigmas = test::uniform(n, 0, 8, 1);
    rgbs = test::uniform(3 * n, 0, 1, 2);
    const size_t n_rays = counts.size();
    rgb.resize(3 * n_rays);
    depth.resize(n_rays);
    acc.resize(n_rays);
    distortion.resize(n_rays);
    weights.resize(n);
  }
  cpu::PackedSamples<float> samples() const {
    return {sigmas.data(),
            rgbs.data(),
            t_starts.data(),
            t_ends.data(),
            packed_info.data(),
            static_cast<int64_t>(sigmas.size()),
            static_cast<int64_t>(depth.size()),
            0.0f};
  }
  cpu::CompositeOutputs<float> outputs() {
    return {rgb.data(), depth.data(), acc.data(), weights.data(), distortion.data()};
  }
};

static void test_forward(const std::vector<int64_t>& counts) {
  Rays rays(counts);
  cpu::composite_forward<float>(rays.samples(), rays.outputs());
  for (size_t ray = 0; ray < counts.size(); ++ray) {
    double trans = 1, red = 0, depth = 0;
    for (int64_t i = rays.packed_info[2 * ray], k = 0; k < counts[ray]; ++i, ++k) {
      const double alpha = -std::expm1(-double(rays.sigmas[i]) * (double(rays.t_ends[i]) - rays.t_starts[i]));
      CHECK(std::fabs(rays.weights[i] - trans * alpha) < (9 + 3 * k) * 0x1p-24);
      red += trans * alpha * rays.rgbs[3 * i];
      depth += trans * alpha * rays.t_starts[i];
      trans *= 1 - alpha;
    }
    const double bound = (9 + 3 * counts[ray]) * 0x1p-24;
    CHECK(std::fabs(rays.rgb[3 * ray] - red) <= bound);
    CHECK(std::fabs(rays.acc[ray] - (1 - trans)) <= bound);
    CHECK(std::fabs(rays.depth[ray] - depth) <= bound * (1 + 0.02 * counts[ray]));
  }
}

// Every gradient is written for every sample; an upstream of ones on opacity has the closed form delta T_end.
static void test_backward(const std::vector<int64_t>& counts) {
  Rays rays(counts);
  cpu::composite_forward<float>(rays.samples(), rays.outputs());
  const size_t n = rays.sigmas.size();
  std::vector<float> ones(counts.size(), 1.0f), d_sigmas(n), d_rgbs(3 * n), d_t_starts(n), d_t_ends(n);
  cpu::composite_backward<float>(
      rays.samples(),
      {rays.rgb.data(), rays.depth.data(), rays.acc.data(), rays.weights.data(), rays.distortion.data()},
      {nullptr, nullptr, ones.data(), nullptr, nullptr},
      {d_sigmas.data(), d_rgbs.data(), d_t_starts.data(), d_t_ends.data()});
  for (size_t ray = 0; ray < counts.size(); ++ray)
    for (int64_t i = rays.packed_info[2 * ray], k = 0; k < counts[ray]; ++i, ++k) {
      const double delta = double(rays.t_ends[i]) - rays.t_starts[i], trans = 1 - double(rays.acc[ray]);
      CHECK(std::fabs(d_sigmas[i] - delta * trans) <= (18 + 6 * counts[ray]) * 0x1p-24 * delta);
      CHECK(d_t_ends[i] == -d_t_starts[i]);
    }
}

static void test_ranges() {
  Rays rays({3});
  for (auto [start, count] : {std::pair<int64_t, int64_t>{-1, 1}, {0, -1}, {0, 4}, {3, 1}, {INT64_MAX, INT64_MAX}}) {
    rays.packed_info = {start, count};
    bool caught = false;
    try {
      cpu::composite_forward<float>(rays.samples(), rays.outputs());
    } catch (const std::invalid_argument&) {
      caught = true;
    }
    CHECK(caught);
  }
}

int main() {
  test_opacity();
  for (const std::vector<int64_t>& counts : {std::vector<int64_t>{}, {0}, {1}, {15, 0, 16, 17}, {63, 64, 65, 130}}) {
    test_forward(counts);
    test_backward(counts);
  }
  test_ranges();
  return test::finish("composite");
}
