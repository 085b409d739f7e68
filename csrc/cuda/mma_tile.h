// SPDX-License-Identifier: Apache-2.0
// The tile schedule of the tensor-core perceptron, forward and backward, as templates on a warp policy W: DeviceWarp
// (device_warp.cuh) is one lane with the instructions of the GPU, the host tests run the same code with 32 lanes in a
// loop (tests/cpp/host_warp.h).
//
// A warp carries kRowBlocks x 16 samples (rows) through all layers in registers: the sums of one layer, activated and
// packed to halves, are the A operand of the next without moving between lanes. Weights are B operands, in memory as
// blocks in the order they are used. The gradient of a matrix, dL/dW = dL/dz^T h, is a product over rows: each warp
// puts its transposed blocks of dL/dz and h in shared memory, and the warps of a thread block share out the blocks of
// the matrix. Inputs and outputs are read and written by callables, so that any memory layout can feed the tile.
//
// W provides: Lanes<T> (a value per lane), each(f) = f(lane) of every lane, at(values, lane),
// mma(sums, a, b), transpose(block): every 8 x 8 quarter in place.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/half.h"
#include "core/macros.h"
#include "cuda/mma_layout.h"
#include "math/activation.h"

#ifdef __CUDACC__
#define NF_APART static __device__ __noinline__
#else
#define NF_APART inline
#endif

namespace nf::cuda {

constexpr int kRowBlocks = 2;  // of a warp: each B operand that is loaded meets two A operands
constexpr int kWarps = 4;      // of a thread block
constexpr int kTileBlocks = kRowBlocks * kWarps;
constexpr int kTileRows = kTileBlocks * kSide;

template <class W>
using Block = typename W::template Lanes<Words>;
template <class W>
using BlockSums = typename W::template Lanes<Sums>;

// ---- elementwise ----

// Calls run(constant) for the activations that halves can carry; Sine needs more of its argument than 11 bits.
template <typename Run>
NF_DEVICE void with_activation(Activation kind, const Run& run) {
  using A = Activation;
  switch (kind) {
    case A::kReLU:
      return run(std::integral_constant<A, A::kReLU>());
    case A::kLeakyReLU:
      return run(std::integral_constant<A, A::kLeakyReLU>());
    case A::kSiLU:
      return run(std::integral_constant<A, A::kSiLU>());
    case A::kExponential:
      return run(std::integral_constant<A, A::kExponential>());
    case A::kSigmoid:
      return run(std::integral_constant<A, A::kSigmoid>());
    case A::kSquareplus:
      return run(std::integral_constant<A, A::kSquareplus>());
    case A::kSoftplus:
      return run(std::integral_constant<A, A::kSoftplus>());
    case A::kTanh:
      return run(std::integral_constant<A, A::kTanh>());
    default:
      return run(std::integral_constant<A, A::kNone>());
  }
}

NF_DEVICE Words packed(const Sums& sums) {
  Words words;
#pragma unroll
  for (int w = 0; w < 4; ++w) words.w[w] = pack_halves(sums.v[2 * w], sums.v[2 * w + 1]);
  return words;
}
// Hidden values: an infinite one would turn the gradient of every weight into NaN, even where its own is zero.
NF_DEVICE Words packed_finite(const Sums& sums) {
  Words words;
#pragma unroll
  for (int w = 0; w < 4; ++w) words.w[w] = pack_finite_halves(sums.v[2 * w], sums.v[2 * w + 1]);
  return words;
}
NF_DEVICE Sums unpacked(const Words& words) {
  Sums sums;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    sums.v[2 * w] = low_half(words.w[w]);
    sums.v[2 * w + 1] = high_half(words.w[w]);
  }
  return sums;
}

NF_DEVICE Sums activated(Activation kind, Sums sums) {
  with_activation(kind, [&](auto k) {
#pragma unroll
    for (float& z : sums.v) z = activation_forward<decltype(k)::value>(z);
  });
  return sums;
}

// sums * a'(stored)
NF_DEVICE Sums times_derivative(Activation kind, Sums sums, const Sums& stored) {
  with_activation(kind, [&](auto k) {
#pragma unroll
    for (int v = 0; v < 8; ++v) sums.v[v] *= activation_derivative<decltype(k)::value>(stored.v[v]);
  });
  return sums;
}

// The same for hidden layers, with all activations but two behind a call, value by value. They stand at every block of
// every layer: inlined, they make a kernel of 500 KB, which no instruction cache holds and which takes half a minute to
// compile.
NF_APART float activated_by_call(Activation kind, float z) {
  with_activation(kind, [&](auto k) { z = activation_forward<decltype(k)::value>(z); });
  return z;
}
NF_DEVICE Sums activated_hidden(Activation kind, Sums sums) {
  if (kind == Activation::kNone) return sums;
  if (kind == Activation::kReLU) {
#pragma unroll
    for (float& z : sums.v) z = activation_forward<Activation::kReLU>(z);
  } else {
#pragma unroll
    for (float& z : sums.v) z = activated_by_call(kind, z);
  }
  return sums;
}
struct TwoFloats {
  float low, high;
};
NF_APART TwoFloats derivatives_by_call(Activation kind, uint32_t stored) {  // of two halves
  TwoFloats slopes{1.0f, 1.0f};
  with_activation(kind, [&](auto k) {
    slopes = {activation_derivative<decltype(k)::value>(low_half(stored)),
              activation_derivative<decltype(k)::value>(high_half(stored))};
  });
  return slopes;
}
NF_DEVICE Sums times_derivative_hidden(Activation kind, Sums sums, const Words& stored) {
  if (kind == Activation::kNone) return sums;
  if (kind == Activation::kReLU) {
    const Sums s = unpacked(stored);
#pragma unroll
    for (int v = 0; v < 8; ++v) sums.v[v] *= activation_derivative<Activation::kReLU>(s.v[v]);
  } else {
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const TwoFloats slopes = derivatives_by_call(kind, stored.w[w]);
      sums.v[2 * w] *= slopes.low;
      sums.v[2 * w + 1] *= slopes.high;
    }
  }
  return sums;
}

// ---- memory ----

template <class W>
NF_DEVICE Block<W> load_block(const Words* blocks, int64_t index) {
  return W::each([&](int lane) { return blocks[index * kLanesOfWarp + lane]; });
}
template <class W>
NF_DEVICE void store_block(Words* blocks, int64_t index, const Block<W>& block) {
  W::each([&](int lane) { blocks[index * kLanesOfWarp + lane] = W::at(block, lane); });
}
struct alignas(16) FourFloats {
  float v[4];
};
template <class W>
NF_DEVICE BlockSums<W> load_sums(const float* sums, int64_t index) {
  return W::each([&](int lane) {
    const FourFloats* groups = reinterpret_cast<const FourFloats*>(sums + index * kBlockValues);
    const FourFloats low = groups[sum_group(lane, 0)], high = groups[sum_group(lane, 1)];
    return Sums{{low.v[0], low.v[1], low.v[2], low.v[3], high.v[0], high.v[1], high.v[2], high.v[3]}};
  });
}
template <class W>
NF_DEVICE void store_sums(float* sums, int64_t index, const BlockSums<W>& block) {
  W::each([&](int lane) {
    const Sums& s = W::at(block, lane);
    FourFloats* groups = reinterpret_cast<FourFloats*>(sums + index * kBlockValues);
    groups[sum_group(lane, 0)] = {{s.v[0], s.v[1], s.v[2], s.v[3]}};
    groups[sum_group(lane, 1)] = {{s.v[4], s.v[5], s.v[6], s.v[7]}};
  });
}
template <class W>
NF_DEVICE BlockSums<W> zero_sums() {
  return W::each([](int) { return Sums{}; });
}

// ---- layers of one warp ----

// A matrix as B operands: block (n, k) is blocks[n * n_k + k]; rows n are the outputs of the product. `bias`, of the
// outputs, may be null.
struct MatrixBlocks {
  const Words* blocks;
  const float* bias;
  int n_k;
};

template <class W>
NF_DEVICE BlockSums<W> start_sums(const MatrixBlocks& matrix, int n) {
  if (!matrix.bias) return zero_sums<W>();
  return W::each([&](int lane) {
    Sums sums;
#pragma unroll
    for (int v = 0; v < 8; ++v) sums.v[v] = matrix.bias[n * kSide + sum_column(lane, v)];
    return sums;
  });
}

// What a warp carries: kRowBlocks x T blocks, T the width in blocks. Callables:
//   source(m, k)        block k of the columns of row block m, as A operand
//   finish(m, n, sums)  what becomes of a block of sums, packed
//   sink(m, n, sums)    takes a block of sums away
template <class W, int T>
struct WarpTile {
  Block<W> h[kRowBlocks][T];

  // h = finish(source matrix^T)
  template <typename Source, typename Finish>
  NF_DEVICE void enter(const MatrixBlocks& matrix, const Source& source, const Finish& finish) {
    BlockSums<W> sums[kRowBlocks][T];
#pragma unroll
    for (int n = 0; n < T; ++n)
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) sums[m][n] = start_sums<W>(matrix, n);
#pragma unroll 1
    for (int k = 0; k < matrix.n_k; ++k) {
      Block<W> a[kRowBlocks];
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) a[m] = source(m, k);
#pragma unroll
      for (int n = 0; n < T; ++n) {
        const Block<W> b = load_block<W>(matrix.blocks, n * matrix.n_k + k);
#pragma unroll
        for (int m = 0; m < kRowBlocks; ++m) W::mma(sums[m][n], a[m], b);
      }
    }
#pragma unroll
    for (int n = 0; n < T; ++n)
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) h[m][n] = finish(m, n, sums[m][n]);
  }

  // h = finish(h matrix^T)
  template <typename Finish>
  NF_DEVICE void pass(const MatrixBlocks& matrix, const Finish& finish) {
    Block<W> next[kRowBlocks][T];
#pragma unroll
    for (int n = 0; n < T; ++n) {
      BlockSums<W> sums[kRowBlocks];
      product(matrix, n, sums);
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) next[m][n] = finish(m, n, sums[m]);
    }
#pragma unroll
    for (int n = 0; n < T; ++n)
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) h[m][n] = next[m][n];
  }

  // sink(h matrix^T)
  template <typename Sink>
  NF_DEVICE void leave(const MatrixBlocks& matrix, int n_blocks, const Sink& sink) const {
#pragma unroll 1
    for (int n = 0; n < n_blocks; ++n) {
      BlockSums<W> sums[kRowBlocks];
      product(matrix, n, sums);
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) sink(m, n, sums[m]);
    }
  }

 private:
  NF_DEVICE void product(const MatrixBlocks& matrix, int n, BlockSums<W> (&sums)[kRowBlocks]) const {
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) sums[m] = start_sums<W>(matrix, n);
#pragma unroll
    for (int k = 0; k < T; ++k) {
      const Block<W> b = load_block<W>(matrix.blocks, n * T + k);
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) W::mma(sums[m], h[m][k], b);
    }
  }
};

// sink(source matrix^T): a single matrix.
template <class W, typename Source, typename Sink>
NF_DEVICE void single_layer(const MatrixBlocks& matrix, int n_blocks, const Source& source, const Sink& sink) {
#pragma unroll 1
  for (int n = 0; n < n_blocks; ++n) {
    BlockSums<W> sums[kRowBlocks];
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) sums[m] = start_sums<W>(matrix, n);
#pragma unroll 1
    for (int k = 0; k < matrix.n_k; ++k) {
      const Block<W> b = load_block<W>(matrix.blocks, n * matrix.n_k + k);
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) W::mma(sums[m], source(m, k), b);
    }
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) sink(m, n, sums[m]);
  }
}

// ---- gradient of a matrix: dL/dW [out, in] += dL/dz^T h over the rows of a tile ----

// Operands of a thread block's tile in shared memory, transposed: gradient[row block][n_out], input[row block][n_in].
struct OuterStage {
  Words *gradient, *input;
  int n_out, n_in;  // blocks
  bool has_bias;    // one more column of blocks, whose first column is the gradient of the bias

  NF_DEVICE int n_columns() const { return n_in + has_bias; }
};

template <class W>
NF_DEVICE void stage_gradient(const OuterStage& stage, int row_block, int out, const Block<W>& z) {
  const Block<W> t = W::transpose(z);
  store_block<W>(stage.gradient, row_block * stage.n_out + out, W::each([&](int lane) {
                   Words words;
#pragma unroll
                   for (int w = 0; w < 4; ++w) words.w[w] = W::at(t, lane).w[transposed_word(w)];
                   return words;
                 }));
}
template <class W>
NF_DEVICE void stage_input(const OuterStage& stage, int row_block, int in, const Block<W>& h) {
  store_block<W>(stage.input, row_block * stage.n_in + in, W::transpose(h));
}
// What stage_gradient was given: each lane reads what it wrote itself.
template <class W>
NF_DEVICE Block<W> staged_gradient(const OuterStage& stage, int row_block, int out) {
  const Block<W> t = load_block<W>(stage.gradient, row_block * stage.n_out + out);
  return W::transpose(W::each([&](int lane) {
    Words words;
#pragma unroll
    for (int w = 0; w < 4; ++w) words.w[transposed_word(w)] = W::at(t, lane).w[w];
    return words;
  }));
}

// B operand whose column 0 is one: sums rows.
template <class W>
NF_DEVICE Block<W> ones_column() {
  return W::each([](int lane) {
    const uint32_t ones = lane >> 2 == 0 ? 0x3c003c00u : 0u;
    return Words{{ones, ones, 0u, 0u}};
  });
}

// Adds this warp's share of the blocks of dL/dW to `sums` (shared memory, n_out x n_columns() blocks), kOuts x 2 blocks
// at a time: more of them load less, fewer take fewer registers and leave no warp of a small matrix idle.
template <class W, int kOuts>
NF_DEVICE void accumulate_outer(const OuterStage& stage, int warp, float* sums) {
  constexpr int kIns = 2;
  const int n_columns = stage.n_columns();
  int out = 0, in = kIns * warp;
  const auto wrap = [&] {
    for (; in >= n_columns && out < stage.n_out; out += kOuts) in -= (n_columns + kIns - 1) / kIns * kIns;
  };
#pragma unroll 1
  for (wrap(); out < stage.n_out; in += kIns * kWarps, wrap()) {
    BlockSums<W> block[kOuts][kIns];
#pragma unroll
    for (int a = 0; a < kOuts; ++a)
#pragma unroll
      for (int b = 0; b < kIns; ++b)
        block[a][b] = out + a < stage.n_out && in + b < n_columns ? load_sums<W>(sums, (out + a) * n_columns + in + b)
                                                                  : zero_sums<W>();
    const Words* gradient = stage.gradient + out * kLanesOfWarp;
    const Words* input = stage.input + in * kLanesOfWarp;
#pragma unroll 2
    for (int row = 0; row < kTileBlocks; ++row) {
      Block<W> z[kOuts], h[kIns];
#pragma unroll
      for (int a = 0; a < kOuts; ++a) z[a] = load_block<W>(gradient, out + a < stage.n_out ? a : 0);
#pragma unroll
      for (int b = 0; b < kIns; ++b) h[b] = in + b < stage.n_in ? load_block<W>(input, b) : ones_column<W>();
#pragma unroll
      for (int a = 0; a < kOuts; ++a)
#pragma unroll
        for (int b = 0; b < kIns; ++b) W::mma(block[a][b], z[a], h[b]);
      gradient += stage.n_out * kLanesOfWarp;
      input += stage.n_in * kLanesOfWarp;
    }
#pragma unroll
    for (int a = 0; a < kOuts; ++a)
#pragma unroll
      for (int b = 0; b < kIns; ++b)
        if (out + a < stage.n_out && in + b < n_columns)
          store_sums<W>(sums, (out + a) * n_columns + in + b, block[a][b]);
  }
}

}  // namespace nf::cuda
