// SPDX-License-Identifier: Apache-2.0
// Multi-layer perceptron evaluated tile by tile, so that activations stay near the arithmetic:
//   h_0 = x,  h_{l+1} = a(W_l h_l + b_l) for l < n_hidden_layers,  y = a_out(W_n h_n + b_n)
// (Mueller et al. 2021). Parameters are flat, in the layout of tiny-cuda-nn: matrices row-major [out, in], first to
// last, all dimensions rounded up to multiples of 16. With biases, each matrix is followed by its bias [out].
// Rows of the last matrix past n_output_dims are ignored and get a zero gradient. Columns of the first matrix past
// n_input_dims meet the constant `input_padding`.
//
// Hidden layers may be modulated (math/modulation.h): h_{l+1} = a(gamma_l zhat + beta_l), zhat being z = W_l h_l + b_l,
// normalised over the features of each sample or not. What is stored is zhat then, and 1 / deviation.
//
// Memory: the forward pass keeps nothing but `saved`, when the caller wants gradients: the stored value of each hidden
// layer (the output of the activation, or its input where stores_input says so), then that of the output where its
// activation stores the input, in an order that is the backend's own. The backward pass reads it once.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "math/activation.h"

namespace nf::NF_BACKEND {

struct MlpLayer {
  int64_t n_in, n_out;    // padded
  int64_t weights, bias;  // offsets in the flat parameters; bias < 0: none
};

struct MlpShape {
  int64_t n_input_dims, n_output_dims, n_neurons, n_hidden_layers;
  Activation activation, output_activation;
  bool has_bias;
  double input_padding;
  double first_omega = 1;              // of the first hidden layer
  ActivationArguments arguments = {};  // of the hidden layers; the output activation has ones
  int64_t n_modulation = 0;            // numbers per sample: none, 2 for all layers, or 2 for each of them
  bool normalizes = false;             // z, before it is modulated

  NF_HD ActivationArguments arguments_of(int64_t layer) const {
    return {layer == 0 ? first_omega : arguments.omega, arguments.scale};
  }
  static NF_HD int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }
  NF_HD int64_t padded_inputs() const { return padded(n_input_dims); }
  NF_HD int64_t padded_outputs() const { return padded(n_output_dims); }
  NF_HD MlpLayer layer(int64_t l) const {
    const int64_t w = n_neurons, first = w * (padded_inputs() + has_bias), other = w * (w + has_bias);
    MlpLayer layer;
    layer.n_in = l == 0 ? padded_inputs() : w;
    layer.n_out = l == n_hidden_layers ? padded_outputs() : w;
    layer.weights = l == 0 ? 0 : first + (l - 1) * other;
    layer.bias = has_bias ? layer.weights + layer.n_out * layer.n_in : -1;
    return layer;
  }
  NF_HD int64_t n_params() const {
    const MlpLayer last = layer(n_hidden_layers);
    return last.weights + last.n_out * (last.n_in + has_bias);
  }
  NF_HD int64_t saved_per_sample() const {  // values that forward keeps for backward
    return n_hidden_layers * (n_neurons + normalizes) + (stores_input(output_activation) ? n_output_dims : 0);
  }
};

// Values of scratch that the two passes need.
int64_t fused_mlp_forward_scratch(const MlpShape& shape);
int64_t fused_mlp_backward_scratch(const MlpShape& shape, int64_t n);

// y [n, n_output_dims] of x [n, n_input_dims]; saved [n * saved_per_sample()], aligned to 64 bytes, may be null.
// modulation [n, n_modulation]: gamma, beta of the first layer, of the second ...
template <typename T>
void fused_mlp_forward(const MlpShape& shape, const T* x, const T* params, int64_t n, T* y, T* saved, T* scratch,
                       const T* modulation = nullptr);

// Gradients of sum(dL_dy * y). dL_dx [n, n_input_dims], aligned to 64 bytes, dL_dparams [n_params] and dL_dmodulation
// [n, n_modulation] are written; each may be null. Weight gradients are summed in slots of consecutive tiles (fewer for
// large networks) and the slots in order: the same numbers in every run, and for every thread count.
template <typename T>
void fused_mlp_backward(const MlpShape& shape, const T* x, const T* params, const T* y, const T* saved, const T* dL_dy,
                        int64_t n, T* dL_dx, T* dL_dparams, T* scratch, const T* modulation = nullptr,
                        T* dL_dmodulation = nullptr);

#ifdef NF_CUDA
// Bytes of shared memory that a thread block of both passes asks for; max_shared_bytes() is what the device has.
template <typename T>
int64_t fused_mlp_shared_bytes(const MlpShape& shape);
#endif

}  // namespace nf::NF_BACKEND
