// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf::NF_BACKEND {

template <typename T>
void frequency_forward(const T* x, T* y, int64_t n, int n_frequencies);
template <typename T>
void frequency_backward(const T* x, const T* dL_dy, T* dL_dx, int64_t n, int n_frequencies);

}  // namespace nf::NF_BACKEND
