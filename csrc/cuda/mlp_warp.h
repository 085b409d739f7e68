// SPDX-License-Identifier: Apache-2.0
// The two passes of a whole perceptron on one warp's rows, over mma_tile.h; row blocks are counted over the whole
// batch. Hidden layers keep for the backward pass the packed blocks as lanes hold them: saved[layer][row block][column
// block].
#pragma once

#include "cuda/mlp_blocks.h"
#include "cuda/mma_tile.h"

namespace nf::cuda {

// Rows [n, n_columns] of X (float, half) as A operands. Columns past the last are `padding`; rows past the last repeat
// it: whatever they are multiplied by is zero, and they must not bring infinities of their own.
template <typename X>
struct RowBlocks {
  const X* x;
  int64_t n;
  int n_columns;
  float padding;

  NF_DEVICE Words operator()(int64_t row_block, int k, int lane) const {
    Words words;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int64_t row = min(row_block * kSide + word_row(lane, w), n - 1);
      words.w[w] = pair(x + row * n_columns, k * kSide + word_column(lane, w));
    }
    return words;
  }

 private:
  struct alignas(2 * sizeof(X)) Pair {
    X low, high;
  };
  NF_DEVICE uint32_t pair(const X* row, int column) const {
    if (column + 1 < n_columns && n_columns % 2 == 0) {
      const Pair both = *reinterpret_cast<const Pair*>(row + column);
      return pack_halves(to_float(both.low), to_float(both.high));
    }
    return pack_halves(column < n_columns ? to_float(row[column]) : padding,
                       column + 1 < n_columns ? to_float(row[column + 1]) : padding);
  }
};

// The power of two that brings a value of these bits into [8, 16): room for a growth by 2^12 on the way down, and
// what is 2^-17 of it still has all digits of a half. 1 where there is nothing to scale, or no use in it.
NF_HD float gradient_scale(uint32_t largest_bits) {
  if (largest_bits == 0 || largest_bits >= 0x7f800000u) return 1.0f;
  const int exponent = 3 + 127 - static_cast<int>(largest_bits >> 23);
  return bits_float(static_cast<uint32_t>(127 + clamp(exponent, -120, 120)) << 23);
}

// dL/dz of the outputs, scaled so that halves can hold it (a power of two).
template <typename X>
struct OutputGradient {
  const X *dL_dy, *y;  // [n, n_columns]
  int64_t n;
  int n_columns;
  Activation activation;
  float scale;

  NF_DEVICE float value(int64_t i) const {
    float slope = 1.0f;
    with_activation(activation, [&](auto k) { slope = activation_derivative<decltype(k)::value>(to_float(y[i])); });
    return to_float(dL_dy[i]) * slope;
  }
  NF_DEVICE Words operator()(int64_t row_block, int k, int lane) const {
    Words words;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int64_t row = row_block * kSide + word_row(lane, w);
      const int column = k * kSide + word_column(lane, w);
      const bool low = row < n && column < n_columns, high = row < n && column + 1 < n_columns;
      words.w[w] = pack_halves(low ? value(row * n_columns + column) * scale : 0.0f,
                               high ? value(row * n_columns + column + 1) * scale : 0.0f);
    }
    return words;
  }
};

// Writes blocks of sums to rows [n, n_columns], through the output activation or scaled.
template <typename X>
struct RowSink {
  X* y;
  int64_t n;
  int n_columns;

  NF_DEVICE void operator()(int64_t row_block, int k, int lane, const Sums& sums) const {
#pragma unroll
    for (int v = 0; v < 8; v += 2) {
      const int64_t row = row_block * kSide + sum_row(lane, v);
      const int column = k * kSide + sum_column(lane, v);
      if (row >= n || column >= n_columns) continue;
      X* p = y + row * n_columns + column;
      if (n_columns % 2 == 0) {
        *reinterpret_cast<Pair*>(p) = {as(sums.v[v], X()), as(sums.v[v + 1], X())};
      } else {
        p[0] = as(sums.v[v], X());
        if (column + 1 < n_columns) p[1] = as(sums.v[v + 1], X());
      }
    }
  }

 private:
  struct alignas(2 * sizeof(X)) Pair {
    X low, high;
  };
  static NF_DEVICE float as(float value, float) { return value; }
  static NF_DEVICE half as(float value, half) { return to_half(value); }
};

// What forward keeps; null: nothing.
struct SavedBlocks {
  Words* blocks;
  int64_t n_row_blocks;
  int width;
  NF_HD int64_t index(int l, int64_t row_block, int n) const { return (l * n_row_blocks + row_block) * width + n; }
};

struct MlpWeights {
  MlpBlocks size;
  Activation activation;  // of hidden layers
  const Words* matrices;  // packed, from the matrix of layer first_layer on
  const float* bias;      // null: none
  int first_layer;
  NF_DEVICE const Words* matrix(int l) const {
    return matrices + int64_t(size.first_matrix(l) - size.first_matrix(first_layer)) * kLanesOfWarp;
  }
  NF_DEVICE MatrixBlocks forward(int l) const {
    return {matrix(l), bias ? bias + size.first_bias(l) : nullptr, size.n_in(l)};
  }
  NF_DEVICE MatrixBlocks backward(int l) const { return {matrix(l), nullptr, size.n_out(l)}; }  // W^T
};

// source(m, k) -> Block, sink(m, n, sums): of this warp's row blocks, the first of which is first_row_block. kApart:
// see activated_apart.
template <class W, int T, bool kApart = false, typename Source, typename Sink>
NF_DEVICE void mlp_forward(const MlpWeights& net, const SavedBlocks& saved, int64_t first_row_block,
                           const Source& source, const Sink& sink) {
  const int n_hidden = net.size.n_hidden;
  if (n_hidden == 0) return single_layer<W>(net.forward(0), net.size.outputs, source, sink);
  const bool keeps_input = stores_input(net.activation);
  WarpTile<W, T> tile;
  const auto hidden = [&](int l) {
    return [&net, &saved, first_row_block, keeps_input, l](int m, int n, const BlockSums<W>& sums) {
      return W::each([&](int lane) {
        const Sums& z = W::at(sums, lane);
        const Words h = packed_finite(activated_if<kApart>(net.activation, z));
        if (saved.blocks)
          saved.blocks[saved.index(l, first_row_block + m, n) * kLanesOfWarp + lane] =
              keeps_input ? packed_finite(z) : h;
        return h;
      });
    };
  };
  tile.enter(net.forward(0), source, hidden(0));
#pragma unroll 1
  for (int l = 1; l < n_hidden; ++l) tile.pass(net.forward(l), hidden(l));
  tile.leave(net.forward(n_hidden), net.size.outputs, sink);
}

// The backward pass of one warp, layer by layer from the top: between the calls for one layer, stage -> accumulate and
// accumulate -> next stage, the thread block meets. Gradient(m, k) -> Block: dL/dz of the outputs; Input: the x of
// forward.
template <class W, int T, typename Gradient, typename Input>
struct MlpBackward {
  const MlpWeights& net;  // transposed matrices
  const SavedBlocks& saved;
  int64_t first_row_block;
  Gradient gradient;
  Input input;
  WarpTile<W, T> tile;  // dL/dz of the layer that is next, below the top

  NF_DEVICE bool is_top(int l) const { return l == net.size.n_hidden; }

  NF_DEVICE void stage(int l, int warp, const OuterStage& stage) const {
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) {
      const int row_block = warp * kRowBlocks + m;
      if (is_top(l)) {
#pragma unroll 1
        for (int k = 0; k < stage.n_out; ++k) stage_gradient<W>(stage, row_block, k, gradient(m, k));
      } else {
#pragma unroll
        for (int k = 0; k < T; ++k) stage_gradient<W>(stage, row_block, k, tile.h[m][k]);
      }
#pragma unroll 1
      for (int k = 0; k < stage.n_in; ++k) stage_input<W>(stage, row_block, k, l == 0 ? input(m, k) : hidden(l, m, k));
    }
  }

  // From dL/dz of layer l >= 1 to that of l - 1.
  NF_DEVICE void descend(int l) {
    const auto finish = [this, l](int m, int n, const BlockSums<W>& sums) {
      const Block<W> stored = load_block<W>(saved.blocks, saved.index(l - 1, first_row_block + m, n));
      return W::each(
          [&](int lane) { return packed(times_derivative(net.activation, W::at(sums, lane), W::at(stored, lane))); });
    };
    if (is_top(l))
      tile.enter(net.backward(l), gradient, finish);
    else
      tile.pass(net.backward(l), finish);
  }

  // dL/dx, from dL/dz of the first layer.
  template <typename Sink>
  NF_DEVICE void leave(const Sink& sink) const {
    if (net.size.n_hidden == 0)
      single_layer<W>(net.backward(0), net.size.inputs, gradient, sink);
    else
      tile.leave(net.backward(0), net.size.inputs, sink);
  }

  // dL/dz between two launches: border[row block][column block].
  NF_DEVICE void load_border(const Words* border) {
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
      for (int k = 0; k < T; ++k) tile.h[m][k] = load_block<W>(border, (first_row_block + m) * T + k);
  }
  NF_DEVICE void store_border(Words* border) const {
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
      for (int k = 0; k < T; ++k) store_block<W>(border, (first_row_block + m) * T + k, tile.h[m][k]);
  }

 private:
  // h_l, l >= 1
  NF_DEVICE Block<W> hidden(int l, int m, int k) const {
    const Block<W> stored = load_block<W>(saved.blocks, saved.index(l - 1, first_row_block + m, k));
    if (!stores_input(net.activation)) return stored;
    return W::each([&](int lane) { return packed_finite(activated(net.activation, unpacked(W::at(stored, lane)))); });
  }
};

}  // namespace nf::cuda
