// SPDX-License-Identifier: Apache-2.0
// The tiny networks of math/kilo_mlp.h: samples are sorted by network (counting sort), and one network's weights stay
// where they are read fastest while tiles of its samples pass all layers. Nothing is kept for the backward pass, which
// evaluates a tile again: that costs less than a third, and no memory.
// Values do not depend on the order of the samples nor on the number of threads; weight gradients are on the CPU sums
// in the order of the samples of a network, cut into chunks, and on CUDA sums in any order.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "math/kilo_mlp.h"

namespace nf::NF_BACKEND {

// Networks and samples. `network[i]` is in [0, n_networks), or negative: no network, zeros.
template <typename T>
struct KiloInputs {
  KiloShape shape;
  const T* params;  // [n_networks, n_params]
  int64_t n_networks;
  const T* positions;      // [n, 3], local
  const T* directions;     // [n, 3], or null: no colour
  const int32_t* network;  // [n]
  int64_t n;
};

// Scratch: integers for the sort, and slots [n_params] for gradients of parameters.
int64_t kilo_sort_scratch(int64_t n, int64_t n_networks);
int64_t kilo_n_slots(int64_t n);

// y [n, 4]: density before its activation, rgb; [n, 1] without directions. A network that does not exist is a
// std::invalid_argument on the CPU, and NaN on CUDA.
template <typename T>
void kilo_mlp_forward(const KiloInputs<T>& in, T* y, int64_t* sort);

// Gradients of sum(dL_dy * y); each but dL_dy may be null. dL_dparams [n_networks, n_params], dL_dx and dL_dd [n, 3].
template <typename T>
void kilo_mlp_backward(const KiloInputs<T>& in, const T* dL_dy, T* dL_dparams, T* dL_dx, T* dL_dd, int64_t* sort,
                       T* slots);

}  // namespace nf::NF_BACKEND
