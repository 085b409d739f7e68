// SPDX-License-Identifier: Apache-2.0
#include "cpu/kilo_sort.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>

#include "core/parallel.h"

namespace nf::cpu {
namespace {

constexpr int64_t kBlock = 16384;
constexpr int64_t kMaxBlocks = 64;

// Calls body(network, first, end) for runs of equal networks >= 0: samples along a ray come in runs, and a counter that
// is stepped once per run does not wait for itself.
template <typename Body>
void for_runs(const int32_t* network, int64_t begin, int64_t end, const Body& body) {
  for (int64_t i = begin; i < end;) {
    const int32_t id = network[i];
    int64_t j = i + 1;
    while (j < end && network[j] == id) ++j;
    if (id >= 0) body(id, i, j);
    i = j;
  }
}

}  // namespace

std::vector<KiloChunk> kilo_sort(const int32_t* network, int64_t n, int64_t n_networks, int64_t chunk, int32_t* order) {
  if (n > std::numeric_limits<int32_t>::max())
    throw std::invalid_argument("kilo_mlp: more samples than 2^31 - 1 in one call; pass them in parts");
  const int64_t n_blocks = std::clamp<int64_t>((n + kBlock - 1) / kBlock, 1, kMaxBlocks);
  const int64_t block = (n + n_blocks - 1) / n_blocks;
  std::vector<int64_t> counts(n_blocks * n_networks);  // then: where a block puts its next sample of a network
  std::atomic<bool> valid{true};
  const auto range = [&](int64_t b) { return std::min((b + 1) * block, n); };
  parallel_tasks(n_blocks, [&](int64_t b, int) {
    int64_t* count = counts.data() + b * n_networks;
    for_runs(network, b * block, range(b), [&](int32_t id, int64_t i, int64_t j) {
      if (id < n_networks)
        count[id] += j - i;
      else
        valid = false;
    });
  });
  if (!valid) throw std::invalid_argument("kilo_mlp: a sample names a network beyond those that params holds");
  std::vector<KiloChunk> chunks;
  int64_t start = 0;
  for (int64_t id = 0; id < n_networks; ++id) {
    const int64_t begin = start;
    for (int64_t b = 0; b < n_blocks; ++b) {
      const int64_t count = counts[b * n_networks + id];
      counts[b * n_networks + id] = start;
      start += count;
    }
    int32_t number = 0;
    for (int64_t i = begin; i < start; i += chunk)
      chunks.push_back({static_cast<int32_t>(id), number++, i, std::min(i + chunk, start)});
  }
  parallel_tasks(n_blocks, [&](int64_t b, int) {
    int64_t* next = counts.data() + b * n_networks;
    for_runs(network, b * block, range(b), [&](int32_t id, int64_t i, int64_t j) {
      int32_t* out = order + next[id];
      next[id] += j - i;
      for (int64_t k = i; k < j; ++k) *out++ = static_cast<int32_t>(k);
    });
  });
  return chunks;
}

}  // namespace nf::cpu
