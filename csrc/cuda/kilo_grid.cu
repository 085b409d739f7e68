// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "ops/kilo_grid.h"

namespace nf::cuda {
namespace {

template <typename T>
struct Locate {
  KiloGrid<T> grid;
  const T* x;
  int32_t* network;
  T* local;
  NF_HD void operator()(int64_t i) const { network[i] = grid.locate(x + 3 * i, local + 3 * i); }
};

}  // namespace

template <typename T>
void kilo_locate(const KiloGrid<T>& grid, const T* x, int64_t n, int32_t* network, T* local) {
  for_each("kilo_locate", n, Locate<T>{grid, x, network, local});
}

template void kilo_locate(const KiloGrid<float>&, const float*, int64_t, int32_t*, float*);
template void kilo_locate(const KiloGrid<double>&, const double*, int64_t, int32_t*, double*);

}  // namespace nf::cuda
