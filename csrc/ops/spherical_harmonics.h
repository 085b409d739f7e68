// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf::NF_BACKEND {

// degree is 1 ... 8
template <typename T>
void spherical_harmonics_forward(const T* directions, T* y, int64_t n, int degree);
template <typename T>
void spherical_harmonics_backward(const T* directions, const T* dL_dy, T* dL_ddirections, int64_t n, int degree);

}  // namespace nf::NF_BACKEND
