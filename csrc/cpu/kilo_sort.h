// SPDX-License-Identifier: Apache-2.0
// Counting sort of samples by network.
#pragma once

#include <cstdint>
#include <vector>

namespace nf::cpu {

// A run of samples of one network in sorted order, no longer than the limit given to kilo_sort.
struct KiloChunk {
  int32_t network;
  int32_t number;      // of the chunk among those of its network
  int64_t begin, end;  // in the sorted order
};

// order [n]: indices of the samples that have a network, sorted by it, in their order within one; returns the chunks.
// Throws std::invalid_argument for a network >= n_networks, and for n >= 2^31, which the indices cannot name.
std::vector<KiloChunk> kilo_sort(const int32_t* network, int64_t n, int64_t n_networks, int64_t chunk, int32_t* order);

}  // namespace nf::cpu
