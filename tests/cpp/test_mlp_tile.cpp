// SPDX-License-Identifier: Apache-2.0
// Tile products against plain loops in double, at every shape around the micro-tiles, in memory that ends where the
// data ends (the sanitizers see a stray access); the pool of large buffers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"
#include "core/buffer_pool.h"
#include "core/rng.h"
#include "cpu/activation.h"
#include "cpu/mlp_tile.h"

using namespace nf;
using namespace nf::cpu;

template <typename T>
static std::vector<T> values(int64_t n, uint64_t seed) {
  std::vector<T> v(n);
  for (int64_t i = 0; i < n; ++i) v[i] = random_uniform(seed, i, 0) - 0.5f;
  return v;
}

// One rounding per term of a sum whose partial sums stay below n_terms / 4 + 1.
template <typename T>
static double bound(int64_t n_terms) {
  return (n_terms + 1) * (n_terms / 4.0 + 1) * (sizeof(T) == 4 ? 0x1p-24 : 0x1p-53);
}

template <typename T>
static void test_products(int64_t rows, int64_t n_sum, int64_t columns) {
  const int64_t lda = n_sum + 3, ldc = columns + 5;
  const auto a = values<T>(rows * lda, 1), b = values<T>(n_sum * columns, 2), bias = values<T>(columns, 3);
  std::vector<T> c(rows * ldc);
  gemm_rows(a.data(), lda, b.data(), n_sum, columns, {bias.data()}, c.data(), ldc, rows);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = bias[j];
      for (int64_t k = 0; k < n_sum; ++k) sum += double(a[i * lda + k]) * b[k * columns + j];
      CHECK(std::fabs(sum - c[i * ldc + j]) <= bound<T>(n_sum));
    }

  const auto x = values<T>(rows * ldc, 4);
  auto dw = values<T>(n_sum * columns, 5);
  const auto before = dw;
  gemm_outer(a.data(), lda, x.data(), ldc, n_sum, columns, rows, dw.data());
  for (int64_t o = 0; o < n_sum; ++o)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = before[o * columns + j];
      for (int64_t i = 0; i < rows; ++i) sum += double(a[i * lda + o]) * x[i * ldc + j];
      CHECK(std::fabs(sum - dw[o * columns + j]) <= bound<T>(rows));
    }

  for (int n_out = 1; n_out <= 4; ++n_out) {
    const auto w = values<T>(n_out * columns, 6);
    std::vector<T> y(rows * n_out);
    gemm_dot(x.data(), ldc, w.data(), columns, columns, n_out, bias.data(), y.data(), n_out, rows);
    for (int64_t i = 0; i < rows; ++i)
      for (int o = 0; o < n_out; ++o) {
        double sum = bias[o];
        for (int64_t k = 0; k < columns; ++k) sum += double(x[i * ldc + k]) * w[o * columns + k];
        CHECK(std::fabs(sum - y[i * n_out + o]) <= bound<T>(columns));
      }
  }
}

// Sums in float of products of numbers that bf16 holds; the rounding of the sums is the machine's own.
static void test_bf16_products(int64_t rows, int64_t n_sum, int64_t columns) {
  const int64_t lda = n_sum + 6, ldx = columns + 4;
  const auto rounded = [](const std::vector<float>& v) {
    std::vector<bf16> r(v.size());
    for (size_t i = 0; i < v.size(); ++i) r[i] = to_bf16(v[i]);
    return r;
  };
  const auto a = rounded(values<float>(rows * lda, 1)), x = rounded(values<float>(rows * ldx, 4));
  const auto b = values<float>(n_sum * columns, 2), init = values<float>(3 * columns, 3);
  std::vector<bf16_pair> pairs(n_sum / 2 * columns);
  pack_pairs(b.data(), n_sum, columns, pairs.data());
  std::vector<int32_t> index(rows);
  for (int64_t i = 0; i < rows; ++i) index[i] = static_cast<int32_t>(i * 7 % 3);
  std::vector<float> c(rows * columns);
  gemm_rows(a.data(), lda, pairs.data(), n_sum, columns, {init.data(), columns, index.data()}, c.data(), columns, rows);
  std::vector<bf16> brief(rows * columns);
  gemm_rows(a.data(), lda, pairs.data(), n_sum, columns, {init.data(), columns, index.data()}, brief.data(), columns,
            rows, ReluEpilogue{});
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = init[index[i] * columns + j];
      for (int64_t k = 0; k < n_sum; ++k)
        sum += double(to_float(a[i * lda + k])) * to_float(to_bf16(b[k * columns + j]));
      CHECK(std::fabs(sum - c[i * columns + j]) <= 2 * bound<float>(n_sum));
      CHECK(to_float(brief[i * columns + j]) == to_float(to_bf16(std::fmax(c[i * columns + j], 0.0f))));
    }

  if (n_sum % 4 != 0) return;
  std::vector<bf16_pair> a_pairs((rows + 1) / 2 * n_sum), x_pairs((rows + 1) / 2 * columns);
  pair_rows(a.data(), lda, rows, n_sum, a_pairs.data());
  pair_rows(x.data(), ldx, rows, columns, x_pairs.data());
  std::vector<float> dw(n_sum * columns, 0.25f);
  gemm_outer(a_pairs.data(), n_sum, x_pairs.data(), columns, n_sum, columns, (rows + 1) / 2, dw.data());
  for (int64_t o = 0; o < n_sum; ++o)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0.25;
      for (int64_t i = 0; i < rows; ++i) sum += double(to_float(a[i * lda + o])) * to_float(x[i * ldx + j]);
      CHECK(std::fabs(sum - dw[o * columns + j]) <= 2 * bound<float>(rows));
    }

  if (columns % (2 * kLanes) != 0) return;
  const auto w = rounded(values<float>(3 * columns, 6));
  std::vector<float> y(rows * 3);
  gemm_dot(x.data(), ldx, w.data(), columns, columns, 3, init.data(), y.data(), 3, rows);
  for (int64_t i = 0; i < rows; ++i)
    for (int o = 0; o < 3; ++o) {
      double sum = init[o];
      for (int64_t k = 0; k < columns; ++k) sum += double(to_float(x[i * ldx + k])) * to_float(w[o * columns + k]);
      CHECK(std::fabs(sum - y[i * 3 + o]) <= 2 * bound<float>(columns));
    }
}

static void test_bf16_rounding() {
  const float inf = INFINITY;
  for (const auto& [x, expected] : {std::pair{1.0f, 1.0f},
                                    {-1.00390625f, -1.0f},
                                    {1.01171875f, 1.015625f},
                                    {3.4e38f, inf},
                                    {-inf, -inf},
                                    {0.0f, 0.0f}})
    CHECK(to_float(to_bf16(x)) == expected);
  CHECK(std::isnan(to_float(to_bf16(NAN))));
}

// Rows that go through a vector or through the scalar tail get the same number.
static void test_activation_tails() {
  const auto z = values<float>(40, 7);
  for (int kind = 0; kind <= static_cast<int>(Activation::kFiner); ++kind) {
    std::vector<float> whole(40), one(40);
    apply_activation(static_cast<Activation>(kind), z.data(), whole.data(), 40);
    for (int i = 0; i < 40; ++i) apply_activation(static_cast<Activation>(kind), &z[i], &one[i], 1);
    CHECK(whole == one);
  }
}

static void test_buffer_pool() {
  const size_t size = size_t(5) << 20;
  auto* first = static_cast<unsigned char*>(acquire_buffer(size));
  CHECK(reinterpret_cast<uintptr_t>(first) % 64 == 0);
  std::fill_n(first, size, 7);
  void* second = acquire_buffer(size);
  CHECK(second != first);
  release_buffer(first);
  CHECK(idle_buffer_bytes() >= size);
  CHECK(acquire_buffer(size - 1000) == first);  // reused
  release_buffer(first);
  void* large = acquire_buffer(8 * size);  // an idle buffer that is too small is left alone
  CHECK(large != first);
  void* small = acquire_buffer(1);  // and so is one that is much too large
  CHECK(small != first);
  for (void* buffer : {second, large, small}) release_buffer(buffer);
  release_buffer(acquire_buffer(kMaxIdleBytes + 1));
  CHECK(idle_buffer_bytes() <= kMaxIdleBytes);
}

int main() {
  for (int64_t rows : {1, 2, 5, 6, 7, 12, 23, 24, 25, 97})
    for (int64_t n_sum : {1, 3, 16, 17})
      for (int64_t columns : {16, 32, 48, 64, 80, 128}) {
        test_products<float>(rows, n_sum, columns);
        test_products<double>(rows, n_sum, columns);
      }
  test_bf16_rounding();
  if (bf16_products() || kLanes < 16)  // narrower modules say the same in other instructions
    for (int64_t rows : {1, 2, 5, 24, 97})
      for (int64_t n_sum : {2, 4, 16, 32, 64})
        for (int64_t columns : {16, 32, 48, 64, 128}) test_bf16_products(rows, n_sum, columns);
  test_activation_tails();
  test_buffer_pool();
  return test::finish("mlp_tile");
}
