// SPDX-License-Identifier: Apache-2.0
// A perceptron as 16 x 16 blocks: sizes, where each block of each matrix lies, and the packing of the flat float
// parameters into B operands of halves (mma_layout.h). Hidden layers are padded with zero weights to 1, 2, 4 or 8
// blocks.
#pragma once

#include <cstdint>

#include "core/half.h"
#include "cuda/mma_layout.h"
#include "ops/fused_mlp.h"

namespace nf::cuda {

constexpr int kMaxBlocks = 8;  // inputs, outputs and width: 128

// Sizes in blocks; l is a layer, 0 ... n_hidden.
struct MlpBlocks {
  int n_hidden, width, inputs, outputs;
  bool has_bias;

  MlpBlocks() = default;
  explicit MlpBlocks(const MlpShape& shape, int least_width = 1)
      : n_hidden(static_cast<int>(shape.n_hidden_layers)),
        width(least_width),
        inputs(static_cast<int>(shape.padded_inputs()) / kSide),
        outputs(static_cast<int>(shape.padded_outputs()) / kSide),
        has_bias(shape.has_bias) {
    while (width * kSide < shape.n_neurons) width *= 2;
  }

  NF_HD int n_in(int l) const { return l == 0 ? inputs : width; }
  NF_HD int n_out(int l) const { return l == n_hidden ? outputs : width; }
  NF_HD int n_columns(int l) const { return n_in(l) + has_bias; }  // of a gradient: the bias is one more column
  // Blocks of the matrices, or of the gradients, of all layers before l; up to l = n_hidden.
  NF_HD int first_matrix(int l) const { return l == 0 ? 0 : width * inputs + (l - 1) * width * width; }
  NF_HD int first_gradient(int l) const {
    return l == 0 ? 0 : width * n_columns(0) + (l - 1) * width * (width + has_bias);
  }
  NF_HD int n_matrix_blocks() const { return first_matrix(n_hidden) + n_out(n_hidden) * n_in(n_hidden); }
  NF_HD int n_gradient_blocks() const { return first_gradient(n_hidden) + n_out(n_hidden) * n_columns(n_hidden); }
  NF_HD int first_bias(int l) const { return l * width * kSide; }  // floats
  NF_HD int n_bias() const { return first_bias(n_hidden) + outputs * kSide; }
};

// One word of the packed matrices per call, i in [0, n_matrix_blocks * 128): W as [out, in] for the forward pass, W^T
// as [in, out] for the backward pass; either may be null. The first n_bias calls also copy biases.
struct PackMlp {
  MlpShape shape;
  MlpBlocks blocks;
  const float* params;
  uint32_t *forward, *backward;
  float* bias;  // null without biases

  NF_HD float weight(const MlpLayer& layer, int out, int in) const {
    return out < layer.n_out && in < layer.n_in ? params[layer.weights + out * layer.n_in + in] : 0.0f;
  }
  NF_HD void operator()(int64_t i) const {
    const int word = static_cast<int>(i & 3), lane = static_cast<int>(i >> 2 & 31), block = static_cast<int>(i >> 7);
    int l = 0;
    while (l < blocks.n_hidden && block >= blocks.first_matrix(l + 1)) ++l;
    const MlpLayer layer = shape.layer(l);
    const int local = block - blocks.first_matrix(l);
    const int row = operand_row(lane, word), column = operand_column(lane, word);
    if (forward) {
      const int out = local / blocks.n_in(l) * kSide + row, in = local % blocks.n_in(l) * kSide + column;
      forward[i] = pack_halves(weight(layer, out, in), weight(layer, out, in + 1));
    }
    if (backward) {
      const int in = local / blocks.n_out(l) * kSide + row, out = local % blocks.n_out(l) * kSide + column;
      backward[i] = pack_halves(weight(layer, out, in), weight(layer, out + 1, in));
    }
    if (bias && i < blocks.n_bias()) copy_bias(static_cast<int>(i));
  }

 private:
  NF_HD void copy_bias(int i) const {
    const int per_layer = blocks.width * kSide;
    const int l = i / per_layer < blocks.n_hidden ? i / per_layer : blocks.n_hidden;
    const MlpLayer layer = shape.layer(l);
    const int out = i - blocks.first_bias(l);
    bias[i] = out < layer.n_out ? params[layer.bias + out] : 0.0f;
  }
};

// Index in the flat parameters of float i of the gradient blocks; -1 for padding.
struct GradientPlace {
  MlpShape shape;
  MlpBlocks blocks;

  NF_HD int64_t operator()(int64_t i) const {
    const int block = static_cast<int>(i / kBlockValues);
    int l = 0;
    while (l < blocks.n_hidden && block >= blocks.first_gradient(l + 1)) ++l;
    const MlpLayer layer = shape.layer(l);
    const int local = block - blocks.first_gradient(l), column_block = local % blocks.n_columns(l);
    const SumPlace place = sum_place(static_cast<int>(i % kBlockValues));
    const int out = local / blocks.n_columns(l) * kSide + place.row;
    const int in = column_block * kSide + place.column;
    if (out >= layer.n_out) return -1;
    if (column_block == blocks.n_in(l)) return place.column == 0 ? layer.bias + out : -1;
    return in < layer.n_in ? layer.weights + out * layer.n_in + in : -1;
  }
};

}  // namespace nf::cuda
