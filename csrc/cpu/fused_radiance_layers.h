// SPDX-License-Identifier: Apache-2.0
// Forward and backward of a PackedNet on one block of rows. A block passes all layers before the next one starts, so
// that its activations are read from the L1 cache. Templates over the hidden activation are not worth their code size:
// ReLU is fused into the products, the others run as a second pass over the block.
#pragma once

#include <cstddef>

#include "cpu/activation.h"
#include "cpu/fused_radiance_net.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace nf::cpu {

constexpr int kBlockRows = 96;  // a multiple of every micro-tile; two blocks of width 64 fill half of an L1 cache

constexpr const float* kNoInit = nullptr;  // of a product: starts at zero
constexpr int kMaxHiddenLayers = 8;

// Hands out aligned arrays of one block of memory. Without a block (nullptr) it only counts, which tells the size.
// Under the address sanitizer what lies between two arrays, at least a line, may not be touched.
class Arena {
 public:
  explicit Arena(std::byte* base) : base_(base) {}
  template <typename T>
  T* take(int64_t n) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    const int64_t next = used_ + (bytes + kLineBytes - 1) / kLineBytes * kLineBytes + kGap;
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
#if defined(__SANITIZE_ADDRESS__)
    if (base_) {
      __asan_unpoison_memory_region(base_ + used_, bytes);
      __asan_poison_memory_region(base_ + used_ + bytes, next - used_ - bytes);
    }
#endif
    used_ = next;
    return p;
  }
  int64_t used() const { return used_; }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr int64_t kGap = kLineBytes;
#else
  static constexpr int64_t kGap = 0;
#endif
  std::byte* base_;
  int64_t used_ = 0;
};

// Stored rows of a net: hidden[l] [n, width] after the activation; pre[l] before it, where the derivative needs it.
// A is float, or bf16 for nets whose hidden activation is ReLU.
template <typename A>
struct NetRows {
  A* hidden[kMaxHiddenLayers] = {};
  A* pre[kMaxHiddenLayers] = {};
  static NetRows allocate(Arena& arena, const PackedNet& net, int64_t n) {
    NetRows r;
    for (int l = 0; l < net.n_hidden(); ++l) {
      r.hidden[l] = arena.take<A>(n * net.width());
      if (stores_input(net.activation())) r.pre[l] = arena.take<A>(n * net.width());
    }
    return r;
  }
  NetRows at(int64_t row, const PackedNet& net) const {
    NetRows r;
    for (int l = 0; l < net.n_hidden(); ++l) {
      r.hidden[l] = hidden[l] + row * net.width();
      r.pre[l] = pre[l] ? pre[l] + row * net.width() : nullptr;
    }
    return r;
  }
};

// n values, a multiple of kLanes, as A: a copy in `buffer`, or `values` itself.
inline const float* rounded(const float* values, int64_t, float*) { return values; }
inline const bf16* rounded(const float* values, int64_t n, bf16* buffer) {
  for (int64_t i = 0; i < n; i += kLanes) store(buffer + i, load(values + i));
  return buffer;
}

// Hidden layers on n rows of x. `init`: what the first layer's sums start from.
template <typename A>
void hidden_forward(const PackedNet& net, const A* x, int64_t ldx, Init<float> init, const NetRows<A>& rows,
                    int64_t n) {
  const int64_t width = net.width();
  for (int l = 0; l < net.n_hidden(); ++l, x = rows.hidden[l - 1], ldx = width, init = {}) {
    const PackedLayer& layer = net.layers()[l];
    const auto* weights = weights_of<A>(layer).input_major;
    if (net.activation() == Activation::kReLU) {
      gemm_rows(x, ldx, weights, layer.n_in, width, init, rows.hidden[l], width, n, ReluEpilogue{});
      continue;
    }
    if constexpr (std::is_same_v<A, float>) {
      float* y = rows.pre[l] ? rows.pre[l] : rows.hidden[l];
      gemm_rows(x, ldx, weights, layer.n_in, width, init, y, width, n);
      apply_activation(net.activation(), y, rows.hidden[l], n * width);
    }
  }
}

// The last matrix, without the output activation: out [n, ld_out], n_outputs <= 4 or padded columns.
template <typename A>
void output_forward(const PackedNet& net, const NetRows<A>& rows, float* out, int64_t ld_out, int64_t n) {
  const PackedLayer& layer = net.layers().back();
  const A* x = rows.hidden[net.n_hidden() - 1];
  const int64_t width = net.width();
  const LayerWeights<A>& weights = weights_of<A>(layer);
  if (ld_out < kColumnMultiple)
    gemm_dot(x, width, weights.rows, width, width, net.n_outputs(), kNoInit, out, ld_out, n);
  else
    gemm_rows(x, width, weights.input_major, width, int64_t(layer.n_out), {}, out, ld_out, n);
}

// One block of gradients on the way back through a net.
template <typename A>
struct BackwardBlock {
  A* gradient[2];                    // [kBlockRows, width], in turns
  A* output;                         // dL_dout as A
  bf16_pair *dL_dy_pairs, *x_pairs;  // unused for float
  static BackwardBlock allocate(Arena& arena, int64_t widest) {
    BackwardBlock b;
    for (A*& block : b.gradient) block = arena.take<A>(kBlockRows * widest);
    b.output = arena.take<A>(kBlockRows * widest);
    b.dL_dy_pairs = arena.take<bf16_pair>(kBlockRows / 2 * widest);
    b.x_pairs = arena.take<bf16_pair>(kBlockRows / 2 * widest);
    return b;
  }
};

// dW of one layer, added to `gradient`; n_dy columns of dL_dy are stored.
inline void weight_gradient(const PackedLayer& layer, const float* dL_dy, int64_t ldy, int64_t, const float* x,
                            int64_t ldx, int64_t n, const BackwardBlock<float>&, float* gradient) {
  gemm_outer(dL_dy, ldy, x, ldx, int64_t(layer.n_out_used), int64_t(layer.n_in), n, gradient);
}
inline void weight_gradient(const PackedLayer& layer, const bf16* dL_dy, int64_t ldy, int64_t n_dy, const bf16* x,
                            int64_t ldx, int64_t n, const BackwardBlock<bf16>& block, float* gradient) {
  pair_rows(dL_dy, ldy, n, n_dy, block.dL_dy_pairs);
  pair_rows(x, ldx, n, layer.n_in, block.x_pairs);
  gemm_outer<bf16_pair>(block.dL_dy_pairs, n_dy, block.x_pairs, layer.n_in, layer.n_out_used, layer.n_in, (n + 1) / 2,
                        gradient);
}

// From dL/d(last matrix's result) [n, ld_out], whose columns past the outputs are 0, to gradients of all matrices
// (added to `gradients`) and, unless null, dL_dx [n, ld_dx]. first_hidden(dL_dpre, width) sees the gradient before the
// first activation, from which the side part of the inputs gets its own.
template <typename A, typename Hook>
void net_backward(const PackedNet& net, const A* x, int64_t ldx, const NetRows<A>& rows, const float* dL_dout,
                  int64_t ld_out, int64_t n, const BackwardBlock<A>& block, float* gradients, float* dL_dx,
                  int64_t ld_dx, const Hook& first_hidden) {
  const int64_t width = net.width();
  const A* dL_dy = rounded(dL_dout, (n * ld_out + kLanes - 1) / kLanes * kLanes, block.output);
  int64_t ldy = ld_out;
  for (int l = net.n_hidden(); l >= 0; --l) {
    const PackedLayer& layer = net.layers()[l];
    const A* input = l == 0 ? x : rows.hidden[l - 1];
    weight_gradient(layer, dL_dy, ldy, ldy, input, l == 0 ? ldx : width, n, block, gradients + layer.gradient);
    const auto* weights = weights_of<A>(layer).output_major;
    const int64_t n_sum = (layer.n_out_used + 1) / 2 * 2;  // an odd one is padded with zeros
    if (l == 0) {
      first_hidden(dL_dy, width);
      if (dL_dx) gemm_rows(dL_dy, ldy, weights, n_sum, int64_t(layer.n_in), {}, dL_dx, ld_dx, n);
      return;
    }
    A* dL_dh = block.gradient[l & 1];
    if (net.activation() == Activation::kReLU) {
      gemm_rows(dL_dy, ldy, weights, n_sum, width, {}, dL_dh, width, n, ReluGradientEpilogue<A>{input, width});
    } else if constexpr (std::is_same_v<A, float>) {
      gemm_rows(dL_dy, ldy, weights, n_sum, width, {}, dL_dh, width, n);
      const float* stored = rows.pre[l - 1] ? rows.pre[l - 1] : input;
      apply_activation_gradient(net.activation(), stored, dL_dh, dL_dh, n * width);
    }
    dL_dy = dL_dh;
    ldy = width;
  }
}

}  // namespace nf::cpu
