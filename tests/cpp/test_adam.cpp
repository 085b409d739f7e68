// SPDX-License-Identifier: Apache-2.0
// The SIMD steps of Adam and their scalar tail give the same numbers, on buffers that end where the last element does.
#include <cmath>

#include "check.h"
#include "cpu/adam.h"

using namespace nf;

namespace {

constexpr int64_t kStep = 3;

bool has_gradient(int64_t i) { return i % 3 != 0; }

struct State {
  std::vector<float> w, g, m, v;
  std::vector<int16_t> k;
  std::vector<half> copy;

  explicit State(int64_t n)
      : w(test::uniform(n, -1, 1, 1)),
        g(test::uniform(n, -1, 1, 2)),
        m(test::uniform(n, -1, 1, 3)),
        v(test::uniform(n, 0, 1, 4)),
        k(n),
        copy(n) {
    for (int64_t i = 0; i < n; ++i) {
      k[i] = static_cast<int16_t>(i * i % 41);
      if (!has_gradient(i)) g[i] = 0;
    }
  }
  cpu::AdamArrays<float> arrays(bool own_steps) {
    return {w.data(), g.data(), m.data(), v.data(), own_steps ? k.data() : nullptr, copy.data()};
  }
};

// A step in one piece equals a step element by element, and leaves what has no gradient alone.
void test_step(int64_t n, bool own_steps) {
  const AdamConfig config{0.01, 0.9, 0.99, 1e-15, 0.0, true, true};
  const cpu::AdamStep<float> step(config, kStep, own_steps);
  const State before(n);
  State whole(n), single(n);
  step(whole.arrays(own_steps), n);
  for (int64_t i = 0; i < n; ++i) step(single.arrays(own_steps).from(i), 1);
  CHECK(whole.w == single.w && whole.m == single.m && whole.v == single.v && whole.k == single.k);
  for (int64_t i = 0; i < n; ++i) {
    CHECK(whole.g[i] == 0);
    CHECK((whole.w[i] != before.w[i]) == has_gradient(i));
    CHECK((whole.m[i] != before.m[i]) == has_gradient(i) && (whole.v[i] != before.v[i]) == has_gradient(i));
    CHECK(!has_gradient(i) || whole.copy[i].bits == to_half(whole.w[i]).bits);
    CHECK(whole.k[i] == before.k[i] + (own_steps && has_gradient(i)));
  }
}

// The rate of a count without a table, as CUDA has it: in float within 8 roundings, in double of what pow can tell.
void test_rates_without_a_table() {
  for (const double beta2 : {0.99, 0.999}) {
    const AdamConfig config{0.01, 0.9, beta2, 1e-15, 0.0, true, false};
    for (const int count : {1, 2, 3, 10, 100, 1000, 10000, kMaxOwnSteps}) {
      const double expected = adam_rate(config, count);
      CHECK(std::fabs(AdamRates<float>(config)(count) - expected) <= 8 * 0x1p-24 * expected);
      CHECK(std::fabs(AdamRates<double>(config)(count) - expected) <= 1e-13 * expected);
    }
  }
}

}  // namespace

int main() {
  test_rates_without_a_table();
  for (int64_t n : {0, 1, 15, 16, 33, 100})
    for (bool own_steps : {false, true}) test_step(n, own_steps);
  return test::finish("adam");
}
