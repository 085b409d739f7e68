// SPDX-License-Identifier: Apache-2.0
#include "ops/modulation.h"

#include <algorithm>

#include "core/parallel.h"

namespace nf::cpu {
namespace {

constexpr int64_t kGrain = 1024;
constexpr int64_t kMaxSlots = 64, kSlotValues = 1 << 22;

int64_t n_slots_of(int64_t n, int64_t n_values) {
  const int64_t blocks = (n + kGrain - 1) / kGrain;
  return std::clamp(kSlotValues / std::max<int64_t>(n_values, 1), int64_t(1),
                    std::clamp(blocks, int64_t(1), kMaxSlots));
}

struct Add {
  template <typename T>
  void operator()(T* sum, T weight, T grad) const {
    *sum = madd(weight, grad, *sum);
  }
};

}  // namespace

int64_t modulation_scratch(const ModulationGrid& grid, int n_channels, int64_t n) {
  const int64_t n_values = grid.n_nodes() * n_channels;
  return n_slots_of(n, n_values) * n_values;
}

template <typename T>
void modulation_forward(const ModulationGrid& grid, const T* x, const T* values, int n_channels, int64_t n, T* y) {
  with_modulation_dims(grid.n_dims, [&](auto d) {
    parallel_for(n, ModulationForward<T, decltype(d)::value>{grid, x, values, y, n_channels}, kGrain);
  });
}

template <typename T>
void modulation_backward(const ModulationGrid& grid, const T* x, const T* values, const T* dL_dy, int n_channels,
                         int64_t n, T* dL_dvalues, T* dL_dx, T* scratch) {
  if (dL_dx)
    with_modulation_dims(grid.n_dims, [&](auto d) {
      parallel_for(n, ModulationBackwardInput<T, decltype(d)::value>{grid, x, values, dL_dy, dL_dx, n_channels},
                   kGrain);
    });
  if (!dL_dvalues) return;
  const int64_t n_values = grid.n_nodes() * n_channels, n_slots = n_slots_of(n, n_values);
  parallel_tasks(n_slots, [&](int64_t slot, int) {
    T* sum = scratch + slot * n_values;
    std::fill_n(sum, n_values, T(0));
    with_modulation_dims(grid.n_dims, [&](auto d) {
      const ModulationBackwardValues<T, decltype(d)::value, Add> add_sample{grid, x, dL_dy, sum, n_channels, {}};
      for (int64_t i = slot * n / n_slots; i < (slot + 1) * n / n_slots; ++i) add_sample(i);
    });
  });
  parallel_ranges(n_values, 4096, [&](int64_t begin, int64_t end) {
    std::copy(scratch + begin, scratch + end, dL_dvalues + begin);
    for (int64_t s = 1; s < n_slots; ++s)
      for (int64_t i = begin; i < end; ++i) dL_dvalues[i] += scratch[s * n_values + i];
  });
}

#define NF_INSTANTIATE(T)                                                                        \
  template void modulation_forward(const ModulationGrid&, const T*, const T*, int, int64_t, T*); \
  template void modulation_backward(const ModulationGrid&, const T*, const T*, const T*, int, int64_t, T*, T*, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
