// SPDX-License-Identifier: Apache-2.0
// Forward and backward of a PackedNet on one block of rows. A block passes all layers before the next one starts, so
// that its activations are read from the L1 cache. Templates over the hidden activation are not worth their code size:
// ReLU is fused into the products, the others run as a second pass over the block.
#pragma once

#include <cstddef>

#include "cpu/activation.h"
#include "cpu/fused_radiance_net.h"

namespace nf::cpu {

constexpr int kBlockRows = 96;  // a multiple of every micro-tile; two blocks of width 64 fill half of an L1 cache

constexpr const float* kNoInit = nullptr;  // of a product: starts at zero
constexpr int kMaxHiddenLayers = 8;

// Hands out aligned arrays of one block of memory. Without a block (nullptr) it only counts, which tells the size.
class Arena {
 public:
  explicit Arena(std::byte* base) : base_(base) {}
  template <typename T>
  T* take(int64_t n) {
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (n * static_cast<int64_t>(sizeof(T)) + kLineBytes - 1) / kLineBytes * kLineBytes;
    return p;
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

// Stored rows of a net: hidden[l] [n, width] after the activation; pre[l] before it, where the derivative needs it.
struct NetRows {
  float* hidden[kMaxHiddenLayers] = {};
  float* pre[kMaxHiddenLayers] = {};
  static NetRows allocate(Arena& arena, const PackedNet& net, int64_t n) {
    NetRows r;
    for (int l = 0; l < net.n_hidden(); ++l) {
      r.hidden[l] = arena.take<float>(n * net.width());
      if (stores_input(net.activation())) r.pre[l] = arena.take<float>(n * net.width());
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

// Hidden layers on n rows of x. With has_init, the rows of hidden[0] (pre[0], where kept) hold the product of the side
// part of the inputs on entry.
inline void hidden_forward(const PackedNet& net, const float* x, int64_t ldx, bool has_init, const NetRows& rows,
                           int64_t n) {
  const int64_t width = net.width();
  for (int l = 0; l < net.n_hidden(); ++l, x = rows.hidden[l - 1], ldx = width) {
    const PackedLayer& layer = net.layers()[l];
    float* y = rows.pre[l] ? rows.pre[l] : rows.hidden[l];
    const float* init = l == 0 && has_init ? y : nullptr;
    if (net.activation() == Activation::kReLU) {
      gemm_rows(x, ldx, layer.input_major, layer.n_in, width, init, width, y, width, n, ReluEpilogue{});
      continue;
    }
    gemm_rows(x, ldx, layer.input_major, layer.n_in, width, init, width, y, width, n);
    apply_activation(net.activation(), y, rows.hidden[l], n * width);
  }
}

// The last matrix, without the output activation: out [n, ld_out], n_outputs <= 4 or padded columns.
inline void output_forward(const PackedNet& net, const NetRows& rows, float* out, int64_t ld_out, int64_t n) {
  const PackedLayer& layer = net.layers().back();
  const float* x = rows.hidden[net.n_hidden() - 1];
  const int64_t width = net.width();
  if (ld_out < kColumnMultiple)
    gemm_dot(x, width, layer.output_major, width, width, net.n_outputs(), kNoInit, out, ld_out, n);
  else
    gemm_rows(x, width, layer.input_major, width, int64_t(layer.n_out), kNoInit, 0, out, ld_out, n);
}

// From dL/d(last matrix's result) to gradients of all matrices (added to `gradients`) and, unless null, dL_dx
// [n, ld_dx]. `scratch` holds two blocks [n, width]. first_hidden(dL_dpre, width) sees the gradient before the first
// activation, from which the side part of the inputs gets its own.
template <typename Hook>
void net_backward(const PackedNet& net, const float* x, int64_t ldx, const NetRows& rows, const float* dL_dout,
                  int64_t ld_out, int64_t n, float* const* scratch, float* gradients, float* dL_dx, int64_t ld_dx,
                  const Hook& first_hidden) {
  const int64_t width = net.width();
  const float* dL_dy = dL_dout;
  int64_t ldy = ld_out;
  for (int l = net.n_hidden(); l >= 0; --l) {
    const PackedLayer& layer = net.layers()[l];
    const float* input = l == 0 ? x : rows.hidden[l - 1];
    gemm_outer(dL_dy, ldy, input, l == 0 ? ldx : width, int64_t(layer.n_out_used), int64_t(layer.n_in), n,
               gradients + layer.gradient);
    if (l == 0) {
      first_hidden(dL_dy, width);
      if (dL_dx) {
        gemm_rows(dL_dy, ldy, layer.output_major, int64_t(layer.n_out_used), int64_t(layer.n_in), kNoInit, 0, dL_dx,
                  ld_dx, n);
      }
      return;
    }
    float* dL_dh = scratch[l & 1];
    if (net.activation() == Activation::kReLU) {
      gemm_rows(dL_dy, ldy, layer.output_major, int64_t(layer.n_out_used), width, kNoInit, 0, dL_dh, width, n,
                ReluGradientEpilogue<float>{input, width});
    } else {
      gemm_rows(dL_dy, ldy, layer.output_major, int64_t(layer.n_out_used), width, kNoInit, 0, dL_dh, width, n);
      const float* stored = rows.pre[l - 1] ? rows.pre[l - 1] : input;
      apply_activation_gradient(net.activation(), stored, dL_dh, dL_dh, n * width);
    }
    dL_dy = dL_dh;
    ldy = width;
  }
}

}  // namespace nf::cpu
