// SPDX-License-Identifier: Apache-2.0
// Multi-layer perceptron evaluated tile by tile, so that activations stay in the first caches:
//   h_0 = x,  h_{l+1} = a(W_l h_l + b_l) for l < n_hidden_layers,  y = a_out(W_n h_n + b_n)
// (Mueller et al. 2021). Parameters are flat, in the layout of tiny-cuda-nn: matrices row-major [out, in], first to
// last, all dimensions rounded up to multiples of 16. With biases, each matrix is followed by its bias [out].
// Rows of the last matrix past n_output_dims are ignored and get a zero gradient. Columns of the first matrix past
// n_input_dims meet the constant `input_padding`.
//
// Hidden layers may be modulated (math/modulation.h): h_{l+1} = a(gamma_l zhat + beta_l), zhat being z = W_l h_l + b_l,
// normalised over the features of each sample or not. What is stored is zhat then, and 1 / deviation.
//
// Memory: the forward pass keeps nothing but `saved`, when the caller wants gradients: per tile of kTileRows samples
// the stored value of each hidden layer ([n_hidden_layers, rows, n_neurons], the output of the activation, or its input
// where stores_input says so), then that of the output where its activation stores the input. The backward pass reads
// it once.
#pragma once

#include <cstdint>

#include "math/activation.h"

namespace nf::cpu {

constexpr int64_t kTileRows = 96;  // a multiple of every row count of the micro-tiles; two 64-wide tiles fill 48 KB

struct MlpShape {
  int64_t n_input_dims, n_output_dims, n_neurons, n_hidden_layers;
  Activation activation, output_activation;
  bool has_bias;
  double input_padding;
  double first_omega = 1;         // of the first hidden layer
  ActivationArguments arguments;  // of the hidden layers; the output activation has ones
  int64_t n_modulation = 0;       // numbers per sample: none, 2 for all layers, or 2 for each of them
  bool normalizes = false;        // z, before it is modulated

  ActivationArguments arguments_of(int64_t layer) const {
    return {layer == 0 ? first_omega : arguments.omega, arguments.scale};
  }
  int64_t padded_inputs() const;
  int64_t padded_outputs() const;
  int64_t n_params() const;
  int64_t saved_per_sample() const;           // values that forward keeps for backward
  int64_t forward_scratch() const;            // values of scratch that fused_mlp_forward needs
  int64_t backward_scratch(int64_t n) const;  // values of scratch that fused_mlp_backward needs
};

// y [n, n_output_dims] of x [n, n_input_dims]; saved [n * saved_per_sample()], aligned to 64 bytes, may be null.
// modulation [n, n_modulation]: gamma, beta of the first layer, of the second ...
template <typename T>
void fused_mlp_forward(const MlpShape& shape, const T* x, const T* params, int64_t n, T* y, T* saved, T* scratch,
                       const T* modulation = nullptr);

// Gradients of sum(dL_dy * y). dL_dx [n, n_input_dims], aligned to 64 bytes, dL_dparams [n_params] and dL_dmodulation
// [n, n_modulation] are written; each may be null.
// Weight gradients are summed in at most 64 slots of consecutive tiles (fewer for large networks) and the slots in
// order: the same numbers for every thread count.
template <typename T>
void fused_mlp_backward(const MlpShape& shape, const T* x, const T* params, const T* y, const T* saved, const T* dL_dy,
                        int64_t n, T* dL_dx, T* dL_dparams, T* scratch, const T* modulation = nullptr,
                        T* dL_dmodulation = nullptr);

}  // namespace nf::cpu
