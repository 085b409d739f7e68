// SPDX-License-Identifier: Apache-2.0
#include "ops/kilo_grid.h"

#include "core/parallel.h"

namespace nf::cpu {

template <typename T>
void kilo_locate(const KiloGrid<T>& grid, const T* x, int64_t n, int32_t* network, T* local) {
  parallel_for(n, [&](int64_t i) { network[i] = grid.locate(x + 3 * i, local + 3 * i); });
}

template void kilo_locate(const KiloGrid<float>&, const float*, int64_t, int32_t*, float*);
template void kilo_locate(const KiloGrid<double>&, const double*, int64_t, int32_t*, double*);

}  // namespace nf::cpu
