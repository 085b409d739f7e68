// SPDX-License-Identifier: Apache-2.0
// The perceptron of fused_mlp.h on tensor cores: factors of products rounded to halves, sums in float. Parameters,
// their gradient and biases are float; X, the type of samples, outputs and their gradients, is float or half. For
// inputs, outputs and layers of at most 128, hidden activations but Sine, output activations but Sine and SiLU.
// Gradients of outputs are scaled by a power of two, found on the device, that brings the largest near 16.
#pragma once

#include <cstddef>

#include "core/half.h"
#include "ops/fused_mlp.h"

namespace nf::NF_BACKEND {

int64_t fused_mlp_half_saved_bytes(const MlpShape& shape, int64_t n);
int64_t fused_mlp_half_forward_scratch_bytes(const MlpShape& shape);
int64_t fused_mlp_half_backward_scratch_bytes(const MlpShape& shape, int64_t n);

// Buffers in bytes are aligned to 16; `saved` may be null.
template <typename X>
void fused_mlp_half_forward(const MlpShape& shape, const X* x, const float* params, int64_t n, X* y, std::byte* saved,
                            std::byte* scratch);

// Either output may be null. The same bits in every run on one device.
template <typename X>
void fused_mlp_half_backward(const MlpShape& shape, const X* x, const float* params, const X* y, const std::byte* saved,
                             const X* dL_dy, int64_t n, X* dL_dx, float* dL_dparams, std::byte* scratch);

}  // namespace nf::NF_BACKEND
