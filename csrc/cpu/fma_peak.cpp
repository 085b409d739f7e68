// SPDX-License-Identifier: Apache-2.0
#include "cpu/fma_peak.h"

#include <chrono>
#include <vector>

#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/mlp_tile.h"

namespace nf::cpu {
namespace {

// more than latency (FMA 4 cycles, bf16 6) times throughput (2 per cycle), and no more than there are registers
constexpr int kChains = kVectorRegisters * 3 / 4;
constexpr int kRounds = 20000;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// kRounds * kChains steps of a chain each; returns a value that depends on all of them.
template <typename Step>
__attribute__((noinline)) float run_chains(float start, const Step& step) {
  vf chain[kChains];
#pragma GCC unroll 32
  for (int c = 0; c < kChains; ++c) chain[c] = splat(start + static_cast<float>(c));
  const Step own = step;  // a copy that no store can change, so that its values stay in registers
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) chain[c] = own(chain[c]);
  }
  vf sum{};
#pragma GCC unroll 32
  for (int c = 0; c < kChains; ++c) sum += chain[c];
  return reduce_add(sum);
}

// GFLOP/s of a step that is `n_operations` in each lane.
template <typename Step>
double measure(double seconds, double n_operations, const Step& step) {
  const int n_threads = num_threads();
  std::vector<double> gflops(n_threads);
  std::vector<float> sums(n_threads);
  parallel_tasks(n_threads, [&](int64_t task, int) {
    const double start = now();
    int64_t calls = 0;
    double elapsed = 0;
    // each call depends on the one before, or the compiler would make only one
    for (; elapsed < seconds; ++calls, elapsed = now() - start) sums[task] = run_chains(1e-9f * sums[task], step);
    gflops[task] = n_operations * kChains * kLanes * kRounds * static_cast<double>(calls) / elapsed * 1e-9;
  });
  double total = 0;
  for (double g : gflops) total += g;
  return total;
}

}  // namespace

double measure_fma_peak(double seconds) {
  return measure(seconds, 2, [a = splat(0.999f), b = splat(0.001f)](vf chain) { return madd(chain, a, b); });
}

double measure_bf16_peak(double seconds) {
  if (!kBf16Products || !bf16_products()) return 0;
  const vu pairs = splat(0x38003800u);  // of 2^-15
  return measure(seconds, 4, [pairs](vf chain) { return detail::multiply_add(pairs, pairs, chain); });
}

}  // namespace nf::cpu
