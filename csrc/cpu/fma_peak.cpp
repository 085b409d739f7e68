// SPDX-License-Identifier: Apache-2.0
#include "cpu/fma_peak.h"

#include <chrono>
#include <vector>

#include "core/parallel.h"
#include "core/simd.h"

namespace nf::cpu {
namespace {

constexpr int kChains = 12;  // more than latency (4 cycles) times throughput (2 per cycle)
constexpr int kRounds = 20000;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// kRounds * kChains madds; returns a value that depends on all of them.
__attribute__((noinline)) float run_chains(float factor, float addend) {
  vf chain[kChains];
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) chain[c] = splat(static_cast<float>(c));
  const vf a = splat(factor), b = splat(addend);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) chain[c] = madd(chain[c], a, b);
  }
  vf sum{};
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) sum += chain[c];
  return reduce_add(sum);
}

}  // namespace

double measure_fma_peak(double seconds) {
  const int n_threads = num_threads();
  std::vector<double> gflops(n_threads);
  std::vector<float> sums(n_threads);
  parallel_tasks(n_threads, [&](int64_t task, int) {
    const double start = now();
    int64_t calls = 0;
    double elapsed = 0;
    // each call depends on the one before, or the compiler would make only one
    for (; elapsed < seconds; ++calls, elapsed = now() - start)
      sums[task] = run_chains(0.999f, 0.001f + 1e-9f * sums[task]);
    gflops[task] = 2.0 * kChains * kLanes * kRounds * static_cast<double>(calls) / elapsed * 1e-9;
  });
  double total = 0;
  for (double g : gflops) total += g;
  return total;
}

}  // namespace nf::cpu
