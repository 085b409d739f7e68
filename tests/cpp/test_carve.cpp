// SPDX-License-Identifier: Apache-2.0
// Visual hulls and the pixels that may show something, through every camera model, on one thread and on three.
#include "check.h"
#include "core/parallel.h"
#include "grid.h"
#include "math/carve.h"
#include "ops/carve.h"
#include "views.h"

using namespace nf;

constexpr float kBetween = -0.5f;  // of closed and open cells

// The first view alone, whose left half is opaque: answers one can see.
static void test_half_a_picture() {
  const test::Views views;
  std::vector<uint8_t> opaque(31 * 21);
  for (int i = 0; i < 31 * 21; ++i) opaque[i] = i % 31 < 15;
  const int64_t start = 0;
  std::vector<float> density(4096);
  cpu::carve(views.seen(), 1, {opaque.data(), &start}, 0, -1, 1, 4, density.data(), nullptr);
  const auto at = [&](int x, int y, int z) { return density[morton_encode(x, y, z)]; };
  CHECK(at(2, 8, 8) == 0 && at(13, 8, 8) == -1);
  cpu::close_unseen(views.seen(), 1, -1, 1, 4, density.data());
  CHECK(at(2, 8, 8) == 0);
  std::vector<uint8_t> bitfield(512), coarse(8), marks(4 * 3);
  cpu::occupancy_bits(density.data(), &kBetween, 1, 4, bitfield.data(), coarse.data());
  cpu::mark_pixel_blocks(views.seen(), 1, {bitfield.data(), coarse.data(), 1, 4}, &start, 12, marks.data());
  CHECK(marks[0] && marks[4] && !marks[3]);
}

struct Hull {
  std::vector<float> density;
  std::vector<uint8_t> marks;
  int64_t n_closed = 0;
};

static Hull hull_of(const std::vector<uint8_t>& opaque, bool with_unseen, int n_threads) {
  constexpr int32_t n_cascades = 2, log2_resolution = 4;
  const test::Views views;
  set_num_threads(n_threads);
  Hull hull;
  hull.density.resize(n_cascades << 3 * log2_resolution);
  cpu::carve(views.seen(), views.kCount, {opaque.data(), views.pixel_starts.data()}, 1, -1, n_cascades, log2_resolution,
             hull.density.data(), nullptr);
  if (with_unseen) cpu::close_unseen(views.seen(), views.kCount, -1, n_cascades, log2_resolution, hull.density.data());
  std::vector<uint8_t> bitfield(hull.density.size() / 8), coarse(hull.density.size() / 512);
  cpu::occupancy_bits(hull.density.data(), &kBetween, n_cascades, log2_resolution, bitfield.data(), coarse.data());
  hull.marks.resize(views.n_blocks);
  cpu::mark_pixel_blocks(views.seen(), views.kCount, {bitfield.data(), coarse.data(), n_cascades, log2_resolution},
                         views.block_starts.data(), views.n_blocks, hull.marks.data());
  for (const float density : hull.density) hull.n_closed += density < 0;
  return hull;
}

static void test_every_camera_model() {
  const test::Views views;
  std::vector<uint8_t> opaque(views.n_pixels, 1);
  CHECK(hull_of(opaque, false, 1).n_closed == 0);
  const int64_t unseen = hull_of(opaque, true, 1).n_closed;
  CHECK(0 < unseen && unseen < 2 * 4096);  // behind the second view, left and right of the first
  for (int64_t i = 0; i < views.n_pixels; ++i) opaque[i] = i * 7 % 64 < 2;
  const Hull one = hull_of(opaque, true, 1), three = hull_of(opaque, true, 3);
  CHECK(one.n_closed > unseen && one.n_closed < 2 * 4096);
  CHECK(one.density == three.density && one.marks == three.marks);
  for (const uint8_t mark : hull_of(std::vector<uint8_t>(views.n_pixels, 1), false, 3).marks) CHECK(mark);
}

// The CUDA kernels reserve tables for silhouettes of at most kLargestSilhouette pixels per side.
static void test_the_largest_silhouette() {
  int64_t largest = 0;
  for (int64_t side = 1; side <= 1 << 14; ++side) {
    const SilhouetteSums wide(side, 1, nullptr), high(1, side, nullptr);
    CHECK(wide.width == high.height && wide.width << wide.shift >= side);
    largest = max(largest, wide.width);
  }
  CHECK(largest == kLargestSilhouette);
}

int main() {
  test_the_largest_silhouette();
  test_half_a_picture();
  test_every_camera_model();
  return test::finish("carve");
}
