// SPDX-License-Identifier: Apache-2.0
// Tile products against plain loops in double, on buffers that end exactly where the last element does.
#include <cmath>

#include "check.h"
#include "cpu/mlp_tile.h"

using namespace nf;

// Each output is one chain of n_sum roundings of terms below 1, plus the rounding of the result.
static bool close(double actual, double expected, int64_t n_sum) {
  return std::fabs(actual - expected) <= (2.0 * n_sum + 2) * 0x1p-24 * std::fmax(1.0, std::fabs(expected) + n_sum);
}

static void test_products(int64_t n_rows, int64_t n_in, int64_t n_out) {
  const int64_t lda = n_in + 3, ldc = n_out + 5;
  const auto a = test::uniform(n_rows ? (n_rows - 1) * lda + n_in : 0, -1, 1, 1);
  const auto b = test::uniform(n_in * n_out, -1, 1, 2);
  const auto init = test::uniform(n_out, -1, 1, 3);
  std::vector<float> c(n_rows ? (n_rows - 1) * ldc + n_out : 0);
  cpu::gemm_rows(a.data(), lda, b.data(), n_in, n_out, init.data(), 0, c.data(), ldc, n_rows);
  for (int64_t i = 0; i < n_rows; ++i)
    for (int64_t o = 0; o < n_out; ++o) {
      double sum = init[o];
      for (int64_t k = 0; k < n_in; ++k) sum += double(a[i * lda + k]) * b[k * n_out + o];
      CHECK(close(c[i * ldc + o], sum, n_in));
    }

  // dW [m, n_out] of rows with m = n_in upstream values each
  std::vector<float> dw(n_in * n_out, 0.5f);
  cpu::gemm_outer(a.data(), lda, c.data(), ldc, n_in, n_out, n_rows, dw.data());
  for (int64_t o = 0; o < n_in; ++o)
    for (int64_t k = 0; k < n_out; ++k) {
      double sum = 0.5, magnitude = 1;
      for (int64_t i = 0; i < n_rows; ++i) {
        sum += double(a[i * lda + o]) * c[i * ldc + k];
        magnitude += std::fabs(double(a[i * lda + o]) * c[i * ldc + k]);
      }
      CHECK(std::fabs(dw[o * n_out + k] - sum) <= (2.0 * n_rows + 2) * 0x1p-24 * magnitude);
    }
}

static void test_dot(int64_t n_rows, int64_t n_in, int n_out) {
  const auto a = test::uniform(n_rows * n_in, -1, 1, 4), w = test::uniform(n_out * n_in, -1, 1, 5);
  const auto init = test::uniform(n_out, -1, 1, 6);
  std::vector<float> c(n_rows * n_out);
  cpu::gemm_dot(a.data(), n_in, w.data(), n_in, n_in, n_out, init.data(), c.data(), n_out, n_rows);
  for (int64_t i = 0; i < n_rows; ++i)
    for (int o = 0; o < n_out; ++o) {
      double sum = init[o];
      for (int64_t k = 0; k < n_in; ++k) sum += double(a[i * n_in + k]) * w[o * n_in + k];
      CHECK(close(c[i * n_out + o], sum, n_in));
    }
}

int main() {
  for (int64_t n_rows : {0, 1, 5, 6, 7, 13, 97})
    for (int64_t n_in : {1, 3, 16, 33, 64})
      for (int64_t n_out : {16, 32, 48, 64, 80, 128}) test_products(n_rows, n_in, n_out);
  for (int64_t n_rows : {0, 1, 2, 7, 8, 9, 33})
    for (int64_t n_in : {16, 64, 128})
      for (int n_out : {1, 2, 3, 4}) test_dot(n_rows, n_in, n_out);
  return test::finish("mlp_tile");
}
