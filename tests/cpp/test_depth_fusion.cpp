// SPDX-License-Identifier: Apache-2.0
// What depths say about many points at once and about one at a time, through every camera model, on one thread and on
// three; pictures and points end where their data ends.
#include <cmath>

#include "check.h"
#include "core/parallel.h"
#include "ops/depth_fusion.h"
#include "views.h"

using namespace nf;

struct Answers {
  std::vector<float> distance;
  std::vector<uint8_t> is_sheet, seen;
  explicit Answers(int64_t n) : distance(n), is_sheet(n), seen(n) {}
};

static void test_many_and_one(int64_t n) {
  const test::Views views;
  std::vector<float> depths = test::uniform(views.n_pixels, 0.3f, 2.5f, 1);
  for (int64_t i = 0; i < views.n_pixels; i += 7) depths[i] = INFINITY;
  const std::vector<float> points = test::uniform(3 * n, -0.5f, 1.5f, 2);
  const DepthPictures pictures{views.cameras(), views.sizes.data(), views.pixel_starts.data(), depths.data(),
                               views.kCount};
  Answers one(n), three(n), single(n);
  int64_t n_seen = 0, n_between = 0;
  for (const bool in_front : {false, true}) {
    const auto fuse = [&](Answers& to) {
      return FuseDepths{pictures, points.data(), 2.0f, 0.5f, to.distance.data(), to.is_sheet.data()};
    };
    const auto see = [&](Answers& to) {
      return SeenInDepths{pictures, points.data(), 0.02f, 2.0f, in_front, to.seen.data()};
    };
    set_num_threads(1);
    cpu::fuse_depths(fuse(one), n);
    cpu::seen_in_depths(see(one), n);
    set_num_threads(3);
    cpu::fuse_depths(fuse(three), n);
    cpu::seen_in_depths(see(three), n);
    for (int64_t i = 0; i < n; ++i) fuse(single)(i), see(single)(i);
    for (const Answers& other : {three, single})
      CHECK(one.distance == other.distance && one.is_sheet == other.is_sheet && one.seen == other.seen);
    for (const uint8_t seen : one.seen) n_seen += seen;
    for (const float distance : one.distance) n_between += std::fabs(distance) < 1;
  }
  CHECK(n < 257 || (0 < n_seen && n_seen < 2 * n && n_between > 0));
}

int main() {
  for (const int64_t n : {0, 1, 15, 16, 17, 255, 257, 1025}) test_many_and_one(n);
  return test::finish("depth_fusion");
}
