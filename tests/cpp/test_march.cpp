// SPDX-License-Identifier: Apache-2.0
// The march in rounds of a few samples, several steps at a time, against one step per test; buffers of exact size.
#include <cmath>

#include "check.h"
#include "cpu/march_ray.h"
#include "grid.h"
#include "ops/march.h"

using namespace nf;
using test::Grid;
using test::make_grid;

static void test_rounds_match_single_steps(int n_cascades, float cone_angle) {
  const Grid grid = make_grid(n_cascades, 5, 0.05f);
  const StepLattice lattice = StepLattice::make(1.5f, cone_angle);
  const float side = static_cast<float>(1 << n_cascades);
  const std::vector<float> origins = test::uniform(300, 0.5f - side, 0.5f + side, 2);
  const std::vector<float> targets = test::uniform(300, 0, 1, 3);
  int64_t total = 0;
  for (int ray = 0; ray < 100; ++ray) {
    float direction[3], length = 0;
    for (int axis = 0; axis < 3; ++axis) {
      direction[axis] = targets[3 * ray + axis] - origins[3 * ray + axis];
      length += direction[axis] * direction[axis];
    }
    for (float& d : direction) d /= std::sqrt(length);
    const RayMarch fresh = begin_march(grid.view, lattice, &origins[3 * ray], direction, 0.05f, INFINITY, 0.3f);
    std::vector<float> starts, ends;
    RayMarch single = fresh;
    for (float start, end; next_sample(grid.view, lattice, single, &start, &end);) {
      starts.push_back(start);
      ends.push_back(end);
    }
    total += static_cast<int64_t>(starts.size());
    for (const int round : {1, 6, 16, 64}) {
      RayMarch resumed = fresh;
      std::vector<float> t_starts(round), t_ends(round);
      size_t place = 0;
      for (int found = round; found == round; place += found) {
        found = cpu::next_samples(grid.view, lattice, resumed, round, t_starts.data(), t_ends.data());
        CHECK(place + found <= starts.size());
        for (int i = 0; i < found && place + i < starts.size(); ++i)
          CHECK(t_starts[i] == starts[place + i] && t_ends[i] == ends[place + i]);
      }
      CHECK(place == starts.size());
    }
  }
  CHECK(total > 500);
}

static void test_packed_march_fills_its_buffers() {
  const Grid grid = make_grid(1, 4, 0.3f);
  const int64_t n_rays = 777;
  const std::vector<float> origins = test::uniform(3 * n_rays, 0, 1, 4);
  std::vector<float> directions(3 * n_rays);
  for (int64_t i = 0; i < n_rays; ++i) directions[3 * i + i % 3] = i % 2 ? 1.0f : -1.0f;
  std::vector<int64_t> packed_info(2 * n_rays), counts(3);
  for (const int64_t capacity : {int64_t(0), int64_t(5000), int64_t(1) << 20}) {
    std::vector<int64_t> ray_indices(capacity);
    std::vector<float> t_starts(capacity), t_ends(capacity);
    const cpu::PackedOutput out{capacity,        packed_info.data(), ray_indices.data(),
                                t_starts.data(), t_ends.data(),      counts.data()};
    cpu::march(grid.view, StepLattice::make(1, 0), {0, INFINITY, 1024, true, 1}, origins.data(), directions.data(),
               n_rays, out, true, nullptr);
    CHECK(counts[0] <= capacity && counts[2] > 5000);
    CHECK((counts[1] > 0) == (counts[2] > capacity));
  }
}

int main() {
  test_rounds_match_single_steps(1, 0);
  test_rounds_match_single_steps(4, 1.0f / 256);
  test_packed_march_fills_its_buffers();
  return test::finish("march");
}
