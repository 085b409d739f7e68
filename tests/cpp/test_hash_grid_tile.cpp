// SPDX-License-Identifier: Apache-2.0
// Tiles of the grid encoding against the scalar definitions, on buffers that end exactly where the last element does.
#include <cmath>

#include "check.h"
#include "cpu/hash_grid_scatter.h"
#include "cpu/hash_grid_tile.h"

using namespace nf;

namespace {

// Both sides use the same fp32 fractions; up to 4 nested lerps round 3 times each at |value| <= 2. A gradient sums up
// to n terms, its partial sums stay below n.
bool close(float actual, float expected, float terms = 1) {
  return std::fabs(actual - expected) <= 24 * terms * 0x1p-24f * std::fmax(1.0f, terms);
}

// `along_line`: from outside the cube to its other side, several samples in a row in each cell.
template <typename P, int D, int F>
void test_level(const GridLevel& level, Interpolation interpolation, int64_t n, bool along_line) {
  const auto values = test::uniform(int64_t(level.n_entries) * F, -1, 1, 1);
  std::vector<P> table(values.size());
  for (size_t i = 0; i < table.size(); ++i)
    if constexpr (sizeof(P) == 2)
      table[i] = to_half(values[i]);
    else
      table[i] = values[i];
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

template <typename P, int D, int F>
void test_tiles() {
  for (GridType type : {GridType::kHash, GridType::kDense, GridType::kTiled})
    for (Interpolation interpolation : {Interpolation::kLinear, Interpolation::kSmoothstep, Interpolation::kNearest}) {
      const GridConfig config{D, 3, F, 6, 3, 2.0f, type, interpolation};
      for (int l = 0; l < config.n_levels; ++l)
        for (int64_t n : {0, 1, 17, 128, 129, 260})
          for (bool along_line : {false, true})
            test_level<P, D, F>(grid_level(config, l, 0), interpolation, n, along_line);
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
