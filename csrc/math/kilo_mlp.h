// SPDX-License-Identifier: Apache-2.0
// Thousands of tiny networks, one per cell of a scene (Reiser et al. 2021, KiloNeRF), all of one shape. With e_x, e_d
// the encodings of a position in the local coordinates of its cell and of a unit direction:
//   h0 = relu(W0 e_x + b0)   h1 = relu(W1 h0 + b1)   z = w_sigma h1 + b_sigma   f = W2 h1 + b2
//   h2 = relu(W3 [f || e_d] + b3)   rgb = sigmoid(W4 h2 + b4)
// z is the density before its activation. f has none, so h2 = relu(M h1 + W3' e_d + m) with one matrix M = W3 W2 for
// the rows of W3 that read f, and m = W3 b2 + b3: what a kernel evaluates. The encoding of v is [v, sin v, cos v, sin
// 2v, cos 2v, ..., cos 2^(K-1) v], each entry for the three axes (no pi).
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "math/elementary.h"

namespace nf {

constexpr int kFreshOctaves = 5;  // every so many octaves sine and cosine are evaluated anew

// Sine and cosine of 2^k x: doubled angles between fresh evaluations, each of which doubles the error: 2^-17 absolute
// in float. x holds the three axes, which are independent and so fill the pipeline together; store(j, axis, value) gets
// entry j of an axis: x, sin x, cos x, sin 2x, ... Axes are constants to the compiler, which keeps all in registers.
template <typename V, typename Store>
NF_HD void kilo_encode(const V (&v)[3], int n_frequencies, const Store& store) {
  V x[3] = {v[0], v[1], v[2]}, s[3] = {}, c[3] = {};
  const auto each = [](const auto& body) { body(0), body(1), body(2); };
  each([&](int axis) { store(0, axis, x[axis]); });
  for (int k = 0; k < n_frequencies; ++k) {
    if (k % kFreshOctaves == 0) {
      each([&](int axis) { sine_cosine(x[axis], &s[axis], &c[axis]); });
    } else {
      each([&](int axis) {
        const V twice = s[axis] + s[axis], cosine_before = c[axis];
        c[axis] = V{} + 1 - twice * s[axis];
        s[axis] = twice * cosine_before;
      });
    }
    each([&](int axis) { x[axis] += x[axis]; });
    each([&](int axis) { store(2 * k + 1, axis, s[axis]); });
    each([&](int axis) { store(2 * k + 2, axis, c[axis]); });
  }
}

// dL/dx of one axis from its entries and their gradients: d sin(2^k x) = 2^k cos(2^k x).
template <typename T, typename Value, typename Gradient>
NF_HD T kilo_encode_gradient(int n_frequencies, const Value& value, const Gradient& gradient) {
  T sum = gradient(0), frequency = 1;
  for (int k = 0; k < n_frequencies; ++k, frequency *= 2) {
    const int s = 2 * k + 1, c = 2 * k + 2;
    sum += frequency * (value(c) * gradient(s) - value(s) * gradient(c));
  }
  return sum;
}

// Shape of a network and where its values lie in a row of parameters [n_params()]. Matrices are input-major [in, out],
// but for w_sigma [width] and w_rgb [3, width]. The rest of a row, to a multiple of 16, is idle.
struct KiloShape {
  int32_t width;  // 16, 32, 48 or 64
  int32_t position_frequencies, direction_frequencies;

  NF_HD int32_t n_position() const { return 3 + 6 * position_frequencies; }
  NF_HD int32_t n_direction() const { return 3 + 6 * direction_frequencies; }
  NF_HD int32_t b0() const { return 0; }
  NF_HD int32_t w0() const { return width; }
  NF_HD int32_t b1() const { return w0() + n_position() * width; }
  NF_HD int32_t w1() const { return b1() + width; }
  NF_HD int32_t b2() const { return w1() + width * width; }
  NF_HD int32_t w2() const { return b2() + width; }
  NF_HD int32_t b3() const { return w2() + width * width; }
  NF_HD int32_t w3() const { return b3() + width; }  // rows of the features
  NF_HD int32_t w3_direction() const { return w3() + width * width; }
  NF_HD int32_t w_sigma() const { return w3_direction() + n_direction() * width; }
  NF_HD int32_t w_rgb() const { return w_sigma() + width; }
  NF_HD int32_t b_sigma() const { return w_rgb() + 3 * width; }
  NF_HD int32_t b_rgb() const { return b_sigma() + 1; }
  NF_HD int32_t n_params() const { return (b_rgb() + 3 + 15) / 16 * 16; }
};

}  // namespace nf
