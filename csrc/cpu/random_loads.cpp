// SPDX-License-Identifier: Apache-2.0
#include "cpu/random_loads.h"

#include <chrono>
#include <vector>

#include "core/parallel.h"

namespace nf::cpu {
namespace {

constexpr int64_t kLoads = 1 << 18;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <typename Row>
__attribute__((noinline)) Row load_rows(const Row* table, uint64_t mask, uint64_t seed) {
  Row sum = 0;
  uint64_t counter = seed;
  for (int64_t i = 0; i < kLoads; ++i) {
    counter += 0x9e3779b97f4a7c15ull;
    sum += table[(counter * 0xbf58476d1ce4e5b9ull >> 24) & mask];
  }
  return sum;
}

template <typename Row>
double measure(int64_t table_bytes, double seconds) {
  const std::vector<Row> table(table_bytes / sizeof(Row), Row(1));
  const int n_threads = num_threads();
  std::vector<double> rates(n_threads);
  std::vector<uint64_t> sums(n_threads);
  parallel_tasks(n_threads, [&](int64_t task, int) {
    const double start = now();
    double elapsed = 0;
    int64_t calls = 0;
    // each call depends on the one before, or the compiler would make only one
    for (; elapsed < seconds; ++calls, elapsed = now() - start)
      sums[task] += load_rows(table.data(), table.size() - 1, sums[task] + task);
    rates[task] = static_cast<double>(kLoads * calls) / elapsed * 1e-6;
  });
  double total = 0;
  for (const double rate : rates) total += rate;
  return total;
}

}  // namespace

double measure_random_loads(int64_t table_bytes, int row_bytes, double seconds) {
  return row_bytes == 4 ? measure<uint32_t>(table_bytes, seconds) : measure<uint64_t>(table_bytes, seconds);
}

}  // namespace nf::cpu
