// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "ops/modulation.h"

namespace nf::cuda {
namespace {

struct AddAtomically {
  template <typename T>
  NF_DEVICE void operator()(T* sum, T weight, T grad) const {
    atomicAdd(sum, weight * grad);
  }
};

}  // namespace

int64_t modulation_scratch(const ModulationGrid&, int, int64_t) { return 0; }

template <typename T>
void modulation_forward(const ModulationGrid& grid, const T* x, const T* values, int n_channels, int64_t n, T* y) {
  with_modulation_dims(grid.n_dims, [&](auto d) {
    for_each("modulation_forward", n, ModulationForward<T, decltype(d)::value>{grid, x, values, y, n_channels});
  });
}

template <typename T>
void modulation_backward(const ModulationGrid& grid, const T* x, const T* values, const T* dL_dy, int n_channels,
                         int64_t n, T* dL_dvalues, T* dL_dx, T*) {
  with_modulation_dims(grid.n_dims, [&](auto d) {
    constexpr int D = decltype(d)::value;
    if (dL_dx)
      for_each("modulation_backward_input", n,
               ModulationBackwardInput<T, D>{grid, x, values, dL_dy, dL_dx, n_channels});
    if (!dL_dvalues) return;
    fill_zero(dL_dvalues, grid.n_nodes() * n_channels);
    for_each("modulation_backward_values", n,
             ModulationBackwardValues<T, D, AddAtomically>{grid, x, dL_dy, dL_dvalues, n_channels, {}});
  });
}

#define NF_INSTANTIATE(T)                                                                        \
  template void modulation_forward(const ModulationGrid&, const T*, const T*, int, int64_t, T*); \
  template void modulation_backward(const ModulationGrid&, const T*, const T*, const T*, int, int64_t, T*, T*, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
