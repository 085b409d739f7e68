// SPDX-License-Identifier: Apache-2.0
// Updates of the occupancy grid: draws, decay and maximum, selection, mean; arrays of exact size, threads that share
// cells.
#include <cmath>

#include "check.h"
#include "core/parallel.h"
#include "ops/occupancy.h"

using namespace nf;

constexpr int32_t kLog2Resolution = 4, kCascades = 3;
constexpr int64_t kCells = int64_t(kCascades) << 3 * kLog2Resolution;

static void test_selection_and_draws() {
  const std::vector<float> density = test::uniform(kCells, -1, 1, 1);
  std::vector<int32_t> cells(kCells);
  int64_t n_cells = 0;
  cpu::occupancy_select(density.data(), 0.9f, kCells, cells.data(), &n_cells, nullptr);
  cells.resize(n_cells);
  cells.shrink_to_fit();
  int64_t expected = 0;
  double sum = 0;
  for (const float d : density) expected += d > 0.9f, sum += std::fmax(d, 0.0f);
  CHECK(n_cells == expected && n_cells > 0);
  for (const int32_t cell : cells) CHECK(density[cell] > 0.9f);
  // both sum in double
  double mean = 0;
  cpu::occupancy_mean(density.data(), kCells, &mean, nullptr);
  CHECK(std::fabs(mean - sum / kCells) <= 1e-12);

  for (const int64_t n_samples : {int64_t(0), int64_t(1), n_cells - 1, 2 * n_cells}) {
    std::vector<int64_t> drawn(n_samples), hits(kCells);
    std::vector<float> positions(3 * n_samples);
    cpu::occupancy_draw(cells.data(), &n_cells, n_samples, kLog2Resolution, 7, 4, drawn.data(), positions.data());
    for (int64_t i = 0; i < n_samples; ++i) {
      float corner[3];
      const float width = cell_bounds(kLog2Resolution, drawn[i], corner);
      for (int axis = 0; axis < 3; ++axis) {
        const float x = positions[3 * i + axis];
        CHECK(corner[axis] <= x && x <= corner[axis] + width);
      }
      ++hits[drawn[i]];
    }
    for (const int32_t cell : cells) CHECK(n_samples < 2 * n_cells || hits[cell] == 2);
  }
}

static void test_update_is_the_decayed_maximum() {
  constexpr int64_t n_samples = 20001;
  constexpr float kDecay = 0.75f;
  const std::vector<float> before = test::uniform(kCells, -0.2f, 1, 1);
  std::vector<float> values = test::uniform(n_samples, -1, 2, 2), expected = before;
  values[5] = NAN;
  values[6] = INFINITY;
  std::vector<int64_t> cells(n_samples);
  for (int64_t i = 0; i < n_samples; ++i) cells[i] = random_below(3, i, 0, 200);  // many samples per cell
  for (float& d : expected) d *= d < 0 ? 1.0f : kDecay;
  for (int64_t i = 0; i < n_samples; ++i) {
    float& d = expected[cells[i]];
    if (d >= 0 && values[i] > d) d = std::isinf(values[i]) ? 3.4028234664e38f : values[i];
  }
  for (const int n_threads : {1, 3}) {
    set_num_threads(n_threads);
    std::vector<float> density = before;
    cpu::occupancy_update(density.data(), kCells, cells.data(), values.data(), n_samples, kDecay);
    CHECK(density == expected);
  }
}

int main() {
  test_selection_and_draws();
  test_update_is_the_decayed_maximum();
  return test::finish("occupancy");
}
