// SPDX-License-Identifier: Apache-2.0
// Both orders of features hold the same numbers, for all sizes around a block and for targets that can be streamed to
// and such that cannot; nothing else is written.
#include "check.h"
#include "cpu/level_rows.h"

using namespace nf;

namespace {

template <int F>
void test_orders(int n_levels, int64_t n, int64_t offset) {
  const int64_t level_stride = n * F + 16 - n * F % 16, row_stride = n_levels * F + 16 - n_levels * F % 16;
  const int64_t size = std::max(n_levels * level_stride, n * row_stride);
  cpu::ThreadMemory memory[3];
  float* arrays[3];
  for (int a = 0; a < 3; ++a) arrays[a] = memory[a].at_least<float>(size + offset) + offset;
  float *by_level = arrays[0], *by_sample = arrays[1], *back = arrays[2];
  for (int64_t i = 0; i < size; ++i) by_level[i] = static_cast<float>(i), by_sample[i] = back[i] = -1;
  cpu::levels_to_samples<F>(by_level, level_stride, n_levels, n, by_sample, row_stride);
  cpu::samples_to_levels<F>(by_sample, row_stride, n_levels, n, back, level_stride);
  cpu::finish_streams();
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < row_stride; ++k) {
      const float expected = k < n_levels * F ? by_level[k / F * level_stride + i * F + k % F] : -1;
      CHECK(by_sample[i * row_stride + k] == expected);
    }
  for (int l = 0; l < n_levels; ++l)
    for (int64_t k = 0; k < level_stride; ++k)
      CHECK(back[l * level_stride + k] == (k < n * F ? by_level[l * level_stride + k] : -1));
}

}  // namespace

int main() {
  for (int n_levels : {1, 7, 8, 16, 19})
    for (int64_t n : {0, 1, 8, 21, 64})
      for (int64_t offset : {0, 3}) {
        test_orders<1>(n_levels, n, offset);
        test_orders<2>(n_levels, n, offset);
        test_orders<8>(n_levels, n, offset);
      }
  return test::finish("level_rows");
}
