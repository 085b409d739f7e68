// SPDX-License-Identifier: Apache-2.0
// The two passes of a whole perceptron on one warp's rows, over mma_tile.h; row blocks are counted over the whole
// batch. Hidden layers keep for the backward pass the packed blocks as lanes hold them: saved[layer][row block][column
// block].
#pragma once

#include "cuda/mlp_blocks.h"
#include "cuda/mma_tile.h"

namespace nf::cuda {

// Two neighbours of a row.
template <typename X>
struct alignas(2 * sizeof(X)) Pair {
  X low, high;
};
NF_DEVICE uint32_t packed(const Pair<float>& pair) { return pack_halves(pair.low, pair.high); }
NF_DEVICE uint32_t packed(const Pair<half>& pair) { return pair.low.bits | uint32_t(pair.high.bits) << 16; }

// Rows [n, n_columns] of X (float, half).
template <typename X>
struct Rows {
  const X* x;
  int64_t n;
  int n_columns;

  // What a lane holds of block k of the columns. Rows and columns past the last repeat it: no load depends on a
  // condition of its own, so that all of them are under way at a time.
  NF_DEVICE void load(int64_t row_block, int k, int lane, Pair<X> (&pairs)[4]) const {
    const X* row[2];
#pragma unroll
    for (int w = 0; w < 2; ++w) row[w] = x + min(row_block * kSide + word_row(lane, w), n - 1) * n_columns;
    const int column = k * kSide;
    if (n_columns % 2 == 0) {
#pragma unroll
      for (int w = 0; w < 4; ++w)
        pairs[w] = *reinterpret_cast<const Pair<X>*>(row[w & 1] + min(column + word_column(lane, w), n_columns - 2));
    } else {
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        pairs[w].low = row[w & 1][min(column + word_column(lane, w), n_columns - 1)];
        pairs[w].high = row[w & 1][min(column + word_column(lane, w) + 1, n_columns - 1)];
      }
    }
  }
};

// Rows as A operands. Columns past the last are `padding`; rows past the last repeat it: whatever they are multiplied
// by is zero, and they must not bring infinities of their own.
template <typename X>
struct RowBlocks {
  Rows<X> rows;
  float padding;

  NF_DEVICE Words operator()(int64_t row_block, int k, int lane) const {
    Pair<X> pairs[4];
    rows.load(row_block, k, lane, pairs);
    Words words;
#pragma unroll
    for (int w = 0; w < 4; ++w) words.w[w] = packed(pairs[w]);
    if ((k + 1) * kSide > rows.n_columns) {
      const uint32_t padded = pack_halves(padding, padding);
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const int n_left = rows.n_columns - k * kSide - word_column(lane, w);
        if (n_left < 2) words.w[w] = n_left < 1 ? padded : (words.w[w] & 0xffffu) | (padded & 0xffff0000u);
      }
    }
    return words;
  }
};

// The power of two that brings a value of these bits into [8, 16): room for a growth by 2^12 on the way down, and
// what is 2^-17 of it still has all digits of a half. 1 where there is nothing to scale, or no use in it.
NF_HD float gradient_scale(uint32_t largest_bits) {
  if (largest_bits == 0 || largest_bits >= 0x7f800000u) return 1.0f;
  const int exponent = 3 + 127 - static_cast<int>(largest_bits >> 23);
  return bits_float(static_cast<uint32_t>(127 + clamp(exponent, -120, 120)) << 23);
}

// Exact, and no division: 2^-e from 2^e, -126 <= e <= 126.
NF_HD float inverse_of_power_of_two(float power) { return bits_float(0x7f000000u - float_bits(power)); }

// dL/dz of the outputs, scaled so that halves can hold it (a power of two).
template <typename X>
struct OutputGradient {
  Rows<X> dL_dy;
  const X* y;  // as dL_dy
  Activation activation;
  float scale;

  NF_DEVICE Rows<X> outputs() const { return {y, dL_dy.n, dL_dy.n_columns}; }
  NF_DEVICE Words operator()(int64_t row_block, int k, int lane) const {
    Sums values = loaded(dL_dy, row_block, k, lane);
    if (activation != Activation::kNone)
      values = times_derivative(activation, values, loaded(outputs(), row_block, k, lane));
#pragma unroll
    for (int v = 0; v < 8; ++v) {
      const bool is_inside =
          row_block * kSide + sum_row(lane, v) < dL_dy.n && k * kSide + sum_column(lane, v) < dL_dy.n_columns;
      values.v[v] = is_inside ? values.v[v] * scale : 0.0f;
    }
    return packed(values);
  }
  // Of eight values, from `first` on and `step` apart; those past the last repeat it.
  NF_DEVICE Sums eight(int64_t first, int64_t step) const {
    Sums values, outputs{};
    const int64_t last = dL_dy.n * dL_dy.n_columns - 1;
#pragma unroll
    for (int v = 0; v < 8; ++v) values.v[v] = to_float(dL_dy.x[min(first + v * step, last)]);
    if (activation == Activation::kNone) return values;
#pragma unroll
    for (int v = 0; v < 8; ++v) outputs.v[v] = to_float(y[min(first + v * step, last)]);
    return times_derivative(activation, values, outputs);
  }

 private:
  static NF_DEVICE Sums loaded(const Rows<X>& rows, int64_t row_block, int k, int lane) {
    Pair<X> pairs[4];
    rows.load(row_block, k, lane, pairs);
    Sums sums;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      sums.v[2 * w] = to_float(pairs[w].low);
      sums.v[2 * w + 1] = to_float(pairs[w].high);
    }
    return sums;
  }
};

// Writes blocks of sums to rows [n, n_columns], through the output activation or scaled.
template <typename X>
struct RowSink {
  X* y;
  int64_t n;
  int n_columns;

  NF_DEVICE void operator()(int64_t row_block, int k, int lane, const Sums& sums) const {
    const auto each = [&](const auto& store) {
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const int64_t row = row_block * kSide + word_row(lane, w);
        const int column = k * kSide + word_column(lane, w);
        if (row < n && column < n_columns)
          store(y + row * n_columns + column, column, as(sums.v[2 * w], X()), as(sums.v[2 * w + 1], X()));
      }
    };
    if (n_columns % 2 == 0)
      each([](X* p, int, X low, X high) { *reinterpret_cast<Pair<X>*>(p) = {low, high}; });
    else
      each([&](X* p, int column, X low, X high) {
        p[0] = low;
        if (column + 1 < n_columns) p[1] = high;
      });
  }

 private:
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

// source(m, k) -> Block, sink(m, n, sums): of this warp's row blocks, the first of which is first_row_block.
template <class W, int T, typename Source, typename Sink>
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
        const Words h = packed_finite(activated_hidden(net.activation, z));
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

// The backward pass of one warp, layer by layer from the top, l: stage -> descend or leave -> accumulate. Around the
// last, which reads what other warps staged, the thread block meets. Gradient(row block, k) -> Block: dL/dz of the
// outputs; Input: the x of forward.
template <class W, int T, typename Gradient, typename Input>
struct MlpBackward {
  const MlpWeights& net;  // transposed matrices
  const SavedBlocks& saved;
  Gradient gradient;
  Input input;
  int64_t first_row_block;
  WarpTile<W, T> tile;  // dL/dz of the layer that is next, below the top
  // What forward kept of the inputs of the layer that is next, for both of its uses. Wider tiles have no registers for
  // it and load it twice.
  static constexpr bool kHolds = T <= 4;
  Block<W> held[kRowBlocks][kHolds ? T : 1];

  NF_DEVICE bool is_top(int l) const { return l == net.size.n_hidden; }

  // Sets loads of layer l under way, long before they are waited for.
  NF_DEVICE void fetch(int l) {
    if constexpr (kHolds) {
      if (l == 0) return;
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
        for (int k = 0; k < T; ++k) held[m][k] = load_stored(l, m, k);
    }
  }

  // The output gradient always, the other operands if the gradient of the matrix is wanted.
  NF_DEVICE void stage(int l, int warp, const OuterStage& stage, bool with_params) const {
    const int row_block = warp * kRowBlocks;
    if (is_top(l)) {
#pragma unroll 1
      for (int k = 0; k < stage.n_out; ++k)
#pragma unroll
        for (int m = 0; m < kRowBlocks; ++m)
          stage_gradient<W>(stage, row_block + m, k, gradient(first_row_block + m, k));
    } else if (with_params) {
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
        for (int k = 0; k < T; ++k) stage_gradient<W>(stage, row_block + m, k, tile.h[m][k]);
    }
    if (!with_params) return;
    if (l == 0) {
#pragma unroll 1
      for (int k = 0; k < stage.n_in; ++k)
#pragma unroll
        for (int m = 0; m < kRowBlocks; ++m) stage_input<W>(stage, row_block + m, k, input(first_row_block + m, k));
    } else {
#pragma unroll
      for (int k = 0; k < T; ++k)
#pragma unroll
        for (int m = 0; m < kRowBlocks; ++m) stage_input<W>(stage, row_block + m, k, hidden(l, m, k));
    }
  }

  // From dL/dz of layer l >= 1 to that of l - 1.
  NF_DEVICE void descend(int l, int warp, const OuterStage& stage) {
    const auto finish = [this, l](int m, int n, const BlockSums<W>& sums) {
      const Block<W> z_or_h = stored(l, m, n);
      return W::each([&](int lane) {
        return packed(times_derivative_hidden(net.activation, W::at(sums, lane), W::at(z_or_h, lane)));
      });
    };
    if (is_top(l))
      tile.enter(net.backward(l), staged_by(warp, stage), finish);
    else
      tile.pass(net.backward(l), finish);
  }

  // dL/dx, from dL/dz of the first layer.
  template <typename Sink>
  NF_DEVICE void leave(int warp, const OuterStage& stage, const Sink& sink) const {
    if (net.size.n_hidden == 0)
      single_layer<W>(net.backward(0), net.size.inputs, staged_by(warp, stage), sink);
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
  static NF_DEVICE auto staged_by(int warp, const OuterStage& stage) {
    return [warp, &stage](int m, int k) { return staged_gradient<W>(stage, warp * kRowBlocks + m, k); };
  }
  // Of layer l >= 1.
  NF_DEVICE Block<W> load_stored(int l, int m, int k) const {
    return load_block<W>(saved.blocks, saved.index(l - 1, first_row_block + m, k));
  }
  NF_DEVICE Block<W> stored(int l, int m, int k) const {
    if constexpr (kHolds)
      return held[m][k];
    else
      return load_stored(l, m, k);
  }
  NF_DEVICE Block<W> hidden(int l, int m, int k) const {  // h_l
    const Block<W> z_or_h = stored(l, m, k);
    if (!stores_input(net.activation)) return z_or_h;
    return W::each(
        [&](int lane) { return packed_finite(activated_hidden(net.activation, unpacked(W::at(z_or_h, lane)))); });
  }
};

}  // namespace nf::cuda
