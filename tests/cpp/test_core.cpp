// SPDX-License-Identifier: Apache-2.0
// Thread pool, half precision, SIMD helpers, exponential.
#include <atomic>
#include <cmath>
#include <stdexcept>

#include "check.h"
#include "core/half.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "math/exponential.h"

using namespace nf;

static void test_half() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const half h{static_cast<uint16_t>(bits)};
    const float x = to_float(h);
    if (std::isnan(x)) {
      CHECK((bits & 0x7c00u) == 0x7c00u && (bits & 0x3ffu) != 0);
      continue;
    }
    CHECK(to_half(x).bits == bits);
    const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 0x3ffu;
    const double magnitude = exponent == 0    ? std::ldexp(mantissa, -24)
                             : exponent == 31 ? INFINITY
                                              : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
    CHECK(x == (bits & 0x8000u ? -magnitude : magnitude));
  }
  CHECK(to_half(65519.f).bits == 0x7bff);  // just below the rounding limit
  CHECK(to_half(65520.f).bits == 0x7c00);  // ties to even: infinity
  CHECK(to_half(0x1p-25f).bits == 0);      // ties to even: zero
  CHECK(to_half(0x1.8p-25f).bits == 1);
  CHECK(to_half(1.0f + 0x1p-11f).bits == 0x3c00);    // tie, even below
  CHECK(to_half(1.0f + 0x1.8p-10f).bits == 0x3c02);  // tie, even above
}

static void test_pool() {
  for (int threads : {1, 2, 5}) {
    set_num_threads(threads);
    for (int64_t n : {0, 1, 2, 63, 1000}) {
      std::vector<int> hits(n, 0);
      parallel_tasks(n, [&](int64_t i, int thread) {
        CHECK(thread >= 0 && thread < threads);
        ++hits[i];
      });
      for (int h : hits) CHECK(h == 1);
    }
    std::atomic<int> nested{0};
    parallel_tasks(8, [&](int64_t, int) { parallel_for(10, [&](int64_t) { ++nested; }, 1); });
    CHECK(nested == 80);
    bool caught = false;
    try {
      parallel_tasks(100, [](int64_t i, int) {
        if (i == 17) throw std::runtime_error("seventeen");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught);
  }
}

static void test_exponential() {
  for (int i = 0; i < 200000; ++i) {
    const float x = -87.3f + 176.0f * random_uniform(1, i, 0);
    const double exact = std::exp(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    CHECK(std::fabs(exponential(x) - exact) <= 2 * ulp);
    CHECK(exponential(splat(x))[kLanes - 1] == exponential(x));
  }
  CHECK(exponential(0.0f) == 1.0f);
  CHECK(exponential(-200.0f) == 0.0f);
  CHECK(exponential(-INFINITY) == 0.0f);
  CHECK(std::isfinite(exponential(200.0f)) && exponential(200.0f) > 3e38f);
  CHECK(std::isnan(exponential(NAN)));
}

static void test_logarithm() {
  for (int i = 0; i < 200000; ++i) {
    const float x = std::exp2(-126.0f + 253.9f * random_uniform(2, i, 0)), near = 0.5f + random_uniform(2, i, 1);
    for (const float value : {x, near}) {
      const double exact = std::log(static_cast<double>(value));
      if (exact == 0) continue;
      CHECK(std::fabs(logarithm(value) - exact) <= 2 * std::ldexp(1.0, std::ilogb(exact) - 23));
    }
  }
  CHECK(logarithm(1.0f) == 0.0f);
}

static void test_simd() {
  const auto x = test::uniform(kLanes, -1000, 1000, 7);
  const vf v = load(x.data());
  const vi cell = floor_to_int(v);
  for (int i = 0; i < kLanes; ++i) {
    CHECK(cell[i] == static_cast<int>(std::floor(x[i])));
    CHECK(fma(v, v, v)[i] == std::fma(x[i], x[i], x[i]));
    CHECK(min(v, splat(3.0f))[i] == std::fmin(x[i], 3.0f));
    CHECK(max(v, splat(3.0f))[i] == std::fmax(x[i], 3.0f));
  }
  CHECK(floor_to_int(splat(-2.0f))[0] == -2);
  CHECK(floor_to_int(splat(-0.25f))[0] == -1);
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += std::floor(x[i]);
  CHECK(reduce_add(to_float(cell)) == sum);  // sums of integers below 2^24 are exact in any order
}

int main() {
  test_half();
  test_pool();
  test_exponential();
  test_logarithm();
  test_simd();
  return test::finish("core");
}
