// SPDX-License-Identifier: Apache-2.0
// The perceptron of fused_mlp.h on tensor cores: factors of products rounded to halves, sums in float. Parameters,
// their gradient and biases are float; X, the type of samples, outputs and their gradients, is float or half. For
// inputs, outputs and layers of at most 128, without modulation; not for the activations that take omega or scale, nor
// for SiLU as output activation.
// Gradients of outputs are scaled by a power of two, found on the device, that brings the largest near 16.
#pragma once

#include <cstddef>

#include "core/half.h"
#include "ops/fused_mlp.h"

namespace nf::NF_BACKEND {

int64_t fused_mlp_half_saved_bytes(const MlpShape& shape, int64_t n);
int64_t fused_mlp_half_forward_scratch_bytes(const MlpShape& shape);
int64_t fused_mlp_half_backward_scratch_bytes(const MlpShape& shape, int64_t n);

// Shared memory that a thread block of the backward pass asks for: whole layers, so wide ones may not fit into what the
// device has. The forward pass reads matrices through the caches where they do not fit.
int64_t fused_mlp_half_shared_bytes(const MlpShape& shape);

// Buffers in bytes are aligned to 16; `saved` may be null.
template <typename X>
void fused_mlp_half_forward(const MlpShape& shape, const X* x, const float* params, int64_t n, X* y, std::byte* saved,
                            std::byte* scratch);

// Either output may be null. The same bits in every run on one device.
template <typename X>
void fused_mlp_half_backward(const MlpShape& shape, const X* x, const float* params, const X* y, const std::byte* saved,
                             const X* dL_dy, int64_t n, X* dL_dx, float* dL_dparams, std::byte* scratch);

}  // namespace nf::NF_BACKEND
