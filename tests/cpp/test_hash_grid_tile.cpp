// SPDX-License-Identifier: Apache-2.0
// Tiles of the grid encoding against the scalar definitions, on buffers that end exactly where the last element does.
#include <cmath>

#include "check.h"
#include "cpu/hash_grid_scatter.h"
#include "cpu/hash_grid_slope.h"
#include "cpu/hash_grid_tile.h"

using namespace nf;

namespace {

// Both sides use the same fp32 fractions; up to 4 nested lerps round 3 times each at |value| <= 2. A gradient sums up
// to n terms, its partial sums stay below n.
bool close(float actual, float expected, float terms = 1) {
  return std::fabs(actual - expected) <= 24 * terms * 0x1p-24f * std::fmax(1.0f, terms);
}

template <typename P>
std::vector<P> table_of(int64_t n_values) {
  const auto values = test::uniform(n_values, -1, 1, 1);
  std::vector<P> table(values.size());
  for (size_t i = 0; i < table.size(); ++i)
    if constexpr (sizeof(P) == 2)
      table[i] = to_half(values[i]);
    else
      table[i] = values[i];
  return table;
}

// Rows [n, D] by axis, each as long as whole vectors are.
template <int D>
struct ByAxis {
  std::vector<std::vector<float>> values;
  float* axis[D];

  ByAxis(const std::vector<float>& rows, int64_t n)
      : values(D, std::vector<float>((n + kLanes - 1) / kLanes * kLanes)) {
    for (int d = 0; d < D; ++d) {
      axis[d] = values[d].data();
      for (int64_t i = 0; i < n; ++i) axis[d][i] = rows[i * D + d];
    }
  }
};

// `along_line`: from outside the cube to its other side, several samples in a row in each cell.
template <typename P, int D, int F>
void test_level(const GridLevel& level, Interpolation interpolation, int64_t n, bool along_line) {
  const std::vector<P> table = table_of<P>(int64_t(level.n_entries) * F);
  auto positions = test::uniform(n * D, -0.2f, 1.2f, 2);
  const auto dL_dy = test::uniform(n * F, -1, 1, 3);
  for (int64_t i = 0; along_line && i < n * D; ++i)
    positions[i] = -0.1f + 1.2f * static_cast<float>(i / D) / static_cast<float>(n) + 1e-3f * positions[i];
  std::vector<std::vector<float>> axes(D, std::vector<float>(n));
  const float* x[D];
  for (int d = 0; d < D; ++d) {
    for (int64_t i = 0; i < n; ++i) axes[d][i] = positions[i * D + d];
    x[d] = axes[d].data();
  }
  std::vector<float> y(n * F), grad(table.size(), 0.0f), expected_grad(table.size(), 0.0f);
  cpu::encode_levels<P, D, F>(&level, 1, interpolation, table.data(), x, n, y.data(), 0, F);
  cpu::scatter_level<D, F>(level, interpolation, x, n, dL_dy.data(), F, grad.data());
  for (int64_t i = 0; i < n; ++i) {
    float expected[F];
    grid_forward<float, D, F>(level, interpolation, table.data(), &positions[i * D], expected);
    for (int f = 0; f < F; ++f) CHECK(close(y[i * F + f], expected[f]));
    grid_backward_table<float, D, F>(level, interpolation, &positions[i * D], &dL_dy[i * F], expected_grad.data());
  }
  for (size_t i = 0; i < grad.size(); ++i) CHECK(close(grad[i], expected_grad[i], static_cast<float>(n)));
}

// Both levels together, from the row of gradients of each sample.
template <typename P, int D, int F>
void test_slopes(const GridLevel (&levels)[2], Interpolation interpolation, int64_t n) {
  const std::vector<P> table = table_of<P>((levels[1].offset + levels[1].n_entries) * F);
  const auto x = test::uniform(n * D, -0.2f, 1.2f, 2), v = test::uniform(n * D, -1, 1, 4);
  const auto dL_dy = test::uniform(n * 2 * F, -1, 1, 3), no_rows = std::vector<float>(n * D);
  const ByAxis<D> at(x, n), along(v, n);
  ByAxis<D> first(no_rows, n), second(no_rows, n);
  std::vector<float> rows(2 * n * F), grad(levels[0].n_entries * F), dL_dy_first(n * F);
  cpu::add_input_gradients<P, D, F>(levels, 2, interpolation, table.data(), at.axis, n, dL_dy.data(), first.axis);
  cpu::add_second_input_gradients<P, D, F>(levels, 2, interpolation, table.data(), at.axis, along.axis, n, dL_dy.data(),
                                           second.axis);
  cpu::encode_levels_along<P, D, F>(levels, 2, interpolation, table.data(), at.axis, along.axis, n, rows.data(), n * F);
  for (int64_t i = 0; i < n * F; ++i) dL_dy_first[i] = dL_dy[i / F * 2 * F + i % F];
  cpu::scatter_level_along<D, F>(levels[0], interpolation, at.axis, along.axis, n, dL_dy_first.data(), grad.data());

  std::vector<float> expected_grad(grad.size());
  // Terms, each a product of some 10 numbers that round; the largest are a slope, and the product of two, or a
  // curvature.
  const float terms = 10 * 2 * F * (1 << D) * D, slope = 1.5f * levels[1].scale,
              bend = 6 * levels[1].scale * levels[1].scale;
  for (int64_t i = 0; i < n; ++i) {
    float expected_first[D] = {}, expected_second[D] = {};
    for (int l = 0; l < 2; ++l) {
      const P* entries = table.data() + levels[l].offset * F;
      const float* gradients = &dL_dy[(i * 2 + l) * F];
      float row[F];
      grid_backward_input<float, D, F>(levels[l], interpolation, entries, &x[i * D], gradients, expected_first);
      grid_backward_backward_input<float, D, F>(levels[l], interpolation, entries, &x[i * D], gradients, &v[i * D],
                                                l == 0 ? expected_grad.data() : nullptr, row, expected_second);
      for (int f = 0; f < F; ++f) CHECK(std::fabs(rows[l * n * F + i * F + f] - row[f]) <= 0x1p-24f * terms * slope);
    }
    for (int d = 0; d < D; ++d) {
      CHECK(std::fabs(first.axis[d][i] - expected_first[d]) <= 0x1p-24f * terms * slope);
      CHECK(std::fabs(second.axis[d][i] - expected_second[d]) <= 0x1p-24f * terms * bend);
    }
  }
  for (size_t i = 0; i < grad.size(); ++i)
    CHECK(std::fabs(grad[i] - expected_grad[i]) <= 0x1p-24f * static_cast<float>(n) * terms * slope);
}

template <typename P, int D, int F>
void test_tiles() {
  for (GridType type : {GridType::kHash, GridType::kDense, GridType::kTiled})
    for (Interpolation interpolation : {Interpolation::kLinear, Interpolation::kSmoothstep, Interpolation::kNearest}) {
      const GridConfig config{D, 3, F, 6, 3, 2.0f, type, interpolation};
      for (int l = 0; l < config.n_levels; ++l)
        for (int64_t n : {0, 1, 17, 128, 129, 260})
          for (bool along_line : {false, true})
            test_level<P, D, F>(grid_level(config, l, 0), interpolation, n, along_line);
      if (interpolation == Interpolation::kNearest) continue;
      const GridLevel coarse = grid_level(config, 1, 0);
      for (int64_t n : {0, 1, 17, 128, 129, 260})
        test_slopes<P, D, F>({coarse, grid_level(config, 2, coarse.n_entries)}, interpolation, n);
    }
}

}  // namespace

int main() {
  test_tiles<float, 1, 1>();
  test_tiles<half, 2, 8>();
  test_tiles<float, 3, 2>();
  test_tiles<half, 3, 2>();
  test_tiles<float, 4, 4>();
  return test::finish("hash_grid_tile");
}
