// SPDX-License-Identifier: Apache-2.0
#include "ops/gates.h"

#include "core/parallel.h"

namespace nf::cpu {

template <typename T>
void gates_forward(const ModulationGrid& grid, const T* x, const uint8_t* counts, const T* factors, int n_blocks,
                   int64_t n, T* y) {
  const int n_open = n_open_blocks(factors, n_blocks);
  with_modulation_dims(grid.n_dims, [&](auto d) {
    parallel_for(n, GateForward<T, decltype(d)::value>{grid, x, counts, factors, y, n_blocks, n_open}, 256);
  });
}

#define NF_INSTANTIATE(T) \
  template void gates_forward(const ModulationGrid&, const T*, const uint8_t*, const T*, int, int64_t, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
