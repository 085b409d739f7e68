// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "ops/gates.h"

namespace nf::cuda {
namespace {

// Factors lie on the device, so every thread looks how many of them are open.
template <typename T, int D>
struct OpenGates {
  GateForward<T, D> gates;
  NF_HD void operator()(int64_t i) const {
    GateForward<T, D> open = gates;
    open.n_open = n_open_blocks(gates.factors, gates.n_blocks);
    open(i);
  }
};

}  // namespace

template <typename T>
void gates_forward(const ModulationGrid& grid, const T* x, const uint8_t* counts, const T* factors, int n_blocks,
                   int64_t n, T* y) {
  with_modulation_dims(grid.n_dims, [&](auto d) {
    for_each("gates_forward", n, OpenGates<T, decltype(d)::value>{{grid, x, counts, factors, y, n_blocks, n_blocks}});
  });
}

#define NF_INSTANTIATE(T) \
  template void gates_forward(const ModulationGrid&, const T*, const uint8_t*, const T*, int, int64_t, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
