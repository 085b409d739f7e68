// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf::NF_BACKEND {

void trunc_exp_forward(const float* x, float* y, int64_t n);
void trunc_exp_forward(const double* x, double* y, int64_t n);
void trunc_exp_backward(const float* x, const float* dL_dy, float* dL_dx, int64_t n);
void trunc_exp_backward(const double* x, const double* dL_dy, double* dL_dx, int64_t n);

}  // namespace nf::NF_BACKEND
