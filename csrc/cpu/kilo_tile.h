// SPDX-License-Identifier: Apache-2.0
// One tile of samples of one tiny network, forward and backward. Encodings are stored by entry ([entry][sample], lanes
// are samples), all other activations by sample, so that neither needs a transpose: a product takes either as its left
// operand.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/activation.h"
#include "cpu/mlp_tile.h"
#include "cpu/tile_memory.h"
#include "math/kilo_mlp.h"

namespace nf::cpu {

constexpr int64_t kKiloRows = 48;  // a multiple of every micro-tile; activations and a network nearly fit an L1 cache

// Zeros after `rows` samples of by_axis [3][kKiloRows], up to a whole vector.
template <typename T>
void kilo_fill_lanes(int64_t rows, T* by_axis) {
  for (int axis = 0; axis < 3; ++axis)
    for (int64_t i = rows; i % kLanes; ++i) by_axis[axis * kKiloRows + i] = 0;
}

// Entries of the encoding of v [3][kKiloRows] -> out [3 + 6 n_frequencies][kKiloRows]; what follows sample `rows` up to
// a whole vector is read and written.
template <typename T>
void kilo_encode_tile(const T* v, int64_t rows, int n_frequencies, T* out) {
  const auto encode = [&](int64_t i, auto at) {
    using V = decltype(at(v));
    const V x[3] = {at(v + i), at(v + kKiloRows + i), at(v + 2 * kKiloRows + i)};
    kilo_encode(x, n_frequencies,
                [&](int j, int axis, V e) { std::memcpy(out + (3 * j + axis) * kKiloRows + i, &e, sizeof e); });
  };
  if constexpr (sizeof(T) == sizeof(float)) {
    for (int64_t i = 0; i < rows; i += kLanes) encode(i, [](const float* p) { return load(p); });
  } else {
    for (int64_t i = 0; i < rows; ++i) encode(i, [](const T* p) { return *p; });
  }
}

// Vectors [n, 3] of `rows` samples by axis, [3][kKiloRows]; the rest of the last lanes gets zeros. With kAhead the
// order may be read kKiloRows further, and what the next tile will gather is fetched meanwhile.
template <bool kAhead, typename T>
void kilo_gather(const T* values, const int32_t* order, int64_t rows, T* by_axis) {
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = values + 3 * int64_t(order[i]);
    if constexpr (kAhead) __builtin_prefetch(values + 3 * int64_t(order[i + kKiloRows]));
    for (int axis = 0; axis < 3; ++axis) by_axis[axis * kKiloRows + i] = row[axis];
  }
  kilo_fill_lanes(rows, by_axis);
}

// Buffers of a thread for a tile, and for what is the same for all tiles of a chunk.
template <typename T>
struct KiloTile {
  static constexpr int64_t kMaxEntries = 128;  // of an encoding, padded
  T *x, *d;                                    // [3][kKiloRows]
  T *e_x, *e_d;                                // encodings, by entry
  T *h0, *h1, *h2;                             // [kKiloRows, width]
  T *sigma, *rgb;                              // [kKiloRows], [kKiloRows, 3]
  T *own_m, *own_m_bias;                       // room for a merged matrix, input-major, and its bias
  const T *m, *m_bias;                         // the one that is used: that room, or another's
  // backward
  T *dz, *a, *b;          // [kKiloRows, 4], [kKiloRows, widest]
  T *w1, *m_back;         // output-major copies
  T *w0, *w3_direction;   // the same, columns padded to kMaxEntries
  T *dL_dm, *dL_dm_bias;  // of the chunk
  T* w3;                  // output-major

  KiloTile(const KiloShape& shape, bool backward) {
    thread_local ThreadMemory memory;
    allocate(shape, backward, nullptr);
    allocate(shape, backward, memory.at_least<T>(size_));
  }

 private:
  void allocate(const KiloShape& shape, bool backward, T* base) {
    const int64_t w = shape.width, widest = std::max<int64_t>(w, kMaxEntries);
    size_ = 0;
    const auto take = [&](int64_t n) {
      T* array = base ? base + size_ : nullptr;
      size_ += (n + 15) / 16 * 16;
      return array;
    };
    x = take(3 * kKiloRows);
    d = take(3 * kKiloRows);
    e_x = take(shape.n_position() * kKiloRows);
    e_d = take(shape.n_direction() * kKiloRows);
    for (T** h : {&h0, &h1, &h2}) *h = take(kKiloRows * w);
    sigma = take(kKiloRows);
    rgb = take(kKiloRows * 3);
    m = own_m = take(w * w);
    m_bias = own_m_bias = take(w);
    if (!backward) return;
    dz = take(kKiloRows * 4);
    a = take(kKiloRows * widest);
    b = take(kKiloRows * widest);
    for (T** matrix : {&w1, &m_back, &w3, &dL_dm}) *matrix = take(w * w);
    dL_dm_bias = take(w);
    w0 = take(w * kMaxEntries);
    w3_direction = take(w * kMaxEntries);
  }
  int64_t size_;
};

namespace detail {

// C = epilogue(init + A B) for A by entry, [n_sum][kKiloRows].
template <typename T, typename Epilogue>
void kilo_rows_by_entry(const T* a, const T* b, int64_t n_sum, int64_t width, const T* bias, T* c, int64_t rows,
                        const Epilogue& epilogue) {
  const Product<T, T> p{b, width, n_sum, {bias}, c, width};
  product<kRowAccumulators>(ColumnMajor<T>{a, kKiloRows}, p, rows, width, epilogue);
}

// dW[k, o] += sum_i A[k][i] dY[i, o] for A by entry.
template <typename T>
void kilo_outer_by_entry(const T* a, int64_t n_entries, const T* dL_dy, int64_t width, int64_t rows, T* dL_dw) {
  const Product<T, T> p{dL_dy, width, rows, {dL_dw, width}, dL_dw, width};
  product<kOuterAccumulators>(RowMajor<T>{a, kKiloRows}, p, n_entries, width, NoEpilogue{});
}

template <typename T>
void add_rows(const T* rows, int64_t n_rows, int64_t width, T* sum) {
  for (int64_t i = 0; i < n_rows; ++i)
    for (int64_t o = 0; o < width; ++o) sum[o] += rows[i * width + o];
}

}  // namespace detail

// The prefetches of what follows `rows` samples: the next network, spread over all products of a tile.
template <typename T>
NextTile kilo_next(const KiloShape& s, int64_t rows, bool has_color, const T* next_net) {
  NextTile next((has_color ? 4 : 2) * rows);
  if (next_net) next.add(next_net, 1, s.n_params());
  return next;
}

// Density of a tile whose e_x is filled: h0, h1, sigma.
template <typename T>
void kilo_density_tile(const KiloShape& s, const T* net, int64_t rows, const KiloTile<T>& t, NextTile& next) {
  const int64_t w = s.width;
  const PrefetchingEpilogue<T, ReluEpilogue> relu{{}, &next};
  detail::kilo_rows_by_entry(t.e_x, net + s.w0(), s.n_position(), w, net + s.b0(), t.h0, rows, relu);
  gemm_rows(t.h0, w, net + s.w1(), w, w, {net + s.b1()}, t.h1, w, rows, relu);
  gemm_dot(t.h1, w, net + s.w_sigma(), w, w, 1, net + s.b_sigma(), t.sigma, 1, rows);
}

// The merged matrix of a network.
template <typename T>
void kilo_merge(const KiloShape& s, const T* net, T* m, T* m_bias) {
  const int64_t w = s.width;
  gemm_rows(net + s.w2(), w, net + s.w3(), w, w, {}, m, w, w);
  gemm_rows(net + s.b2(), w, net + s.w3(), w, w, {net + s.b3()}, m_bias, w, 1);
}

// Colour of a tile whose h1, e_d and merged matrix are filled: h2, rgb.
template <typename T>
void kilo_color_tile(const KiloShape& s, const T* net, int64_t rows, const KiloTile<T>& t, NextTile& next) {
  const int64_t w = s.width;
  const PrefetchingEpilogue<T, ReluEpilogue> relu{{}, &next};
  const PrefetchingEpilogue<T, NoEpilogue> as_it_is{{}, &next};
  detail::kilo_rows_by_entry(t.e_d, net + s.w3_direction(), s.n_direction(), w, t.m_bias, t.h2, rows, as_it_is);
  gemm_rows(t.h1, w, t.m, w, w, {t.h2, w}, t.h2, w, rows, relu);  // each element starts from itself
  gemm_dot(t.h2, w, net + s.w_rgb(), w, w, 3, net + s.b_rgb(), t.rgb, 3, rows);
  apply_activation(Activation::kSigmoid, t.rgb, t.rgb, 3 * rows);
}

// Output-major copies of the matrices that lead back, those to the encodings only for input gradients; empty sums.
template <typename T>
void kilo_begin_backward(const KiloShape& s, const T* net, bool has_color, bool needs_inputs, const KiloTile<T>& t) {
  const int64_t w = s.width;
  pack_input_major(net + s.w1(), w, w, t.w1);
  if (has_color) {
    pack_input_major(t.m, w, w, t.m_back);
    std::fill_n(t.dL_dm, w * w, T(0));
    std::fill_n(t.dL_dm_bias, w, T(0));
  }
  if (!needs_inputs) return;
  const auto padded = [w](const T* from, int64_t n, T* to) {
    for (int64_t o = 0; o < w; ++o)
      for (int64_t k = 0; k < KiloTile<T>::kMaxEntries; ++k)
        to[o * KiloTile<T>::kMaxEntries + k] = k < n ? from[k * w + o] : T(0);
  };
  padded(net + s.w0(), s.n_position(), t.w0);
  if (has_color) padded(net + s.w3_direction(), s.n_direction(), t.w3_direction);
}

// Of a tile whose forward is in `t`, from dL_dsigma, dL_drgb in t.dz [rows, 4] (without colour: its first column):
// gradients of the parameters are added to `grad`, and of the merged matrix to t.dL_dm; input gradients are given to
// dx(sample, axis, value) and dd. `grad` may be null.
template <typename T, typename Dx, typename Dd>
void kilo_backward_tile(const KiloShape& s, const T* net, int64_t rows, bool has_color, bool needs_inputs,
                        const KiloTile<T>& t, T* grad, const Dx& dx, const Dd& dd) {
  const int64_t w = s.width;
  constexpr int64_t n_entries = KiloTile<T>::kMaxEntries;
  const auto to_inputs = [&](const T* dL_dh, const T* w_back, const T* e, int n_frequencies, T* dL_de,
                             const auto& out) {
    gemm_rows(dL_dh, w, w_back, w, n_entries, {}, dL_de, n_entries, rows);
    for (int64_t i = 0; i < rows; ++i)
      for (int axis = 0; axis < 3; ++axis)
        out(i, axis,
            kilo_encode_gradient<T>(
                n_frequencies, [&](int j) { return e[(3 * j + axis) * kKiloRows + i]; },
                [&](int j) { return dL_de[i * n_entries + 3 * j + axis]; }));
  };
  T dsigma[kKiloRows], drgb[3 * kKiloRows];
  for (int64_t i = 0; i < rows; ++i) dsigma[i] = t.dz[4 * i];
  T *dL_dh1 = t.b, *dL_dh0 = t.a;
  const ReluGradientEpilogue<T> through_h1{t.h1, w};
  if (has_color) {
    for (int64_t i = 0; i < 3 * rows; ++i) drgb[i] = t.dz[4 * (i / 3) + 1 + i % 3] * t.rgb[i] * (1 - t.rgb[i]);
    T* dL_dh2 = t.a;
    gemm_rows(drgb, 3, net + s.w_rgb(), 3, w, {}, dL_dh2, w, rows, ReluGradientEpilogue<T>{t.h2, w});
    if (grad) {
      gemm_outer(drgb, 3, t.h2, w, 3, w, rows, grad + s.w_rgb());
      detail::add_rows(drgb, rows, 3, grad + s.b_rgb());
      gemm_outer(t.h1, w, dL_dh2, w, w, w, rows, t.dL_dm);
      detail::kilo_outer_by_entry(t.e_d, s.n_direction(), dL_dh2, w, rows, grad + s.w3_direction());
      detail::add_rows(dL_dh2, rows, w, t.dL_dm_bias);
    }
    if (needs_inputs) to_inputs(dL_dh2, t.w3_direction, t.e_d, s.direction_frequencies, t.b, dd);
    gemm_rows(dsigma, 1, net + s.w_sigma(), 1, w, {}, dL_dh1, w, rows);
    gemm_rows(dL_dh2, w, t.m_back, w, w, {dL_dh1, w}, dL_dh1, w, rows, through_h1);
  } else {
    gemm_rows(dsigma, 1, net + s.w_sigma(), 1, w, {}, dL_dh1, w, rows, through_h1);
  }
  gemm_rows(dL_dh1, w, t.w1, w, w, {}, dL_dh0, w, rows, ReluGradientEpilogue<T>{t.h0, w});
  if (grad) {
    gemm_outer(dsigma, 1, t.h1, w, 1, w, rows, grad + s.w_sigma());
    detail::add_rows(dsigma, rows, 1, grad + s.b_sigma());
    gemm_outer(t.h0, w, dL_dh1, w, w, w, rows, grad + s.w1());
    detail::add_rows(dL_dh1, rows, w, grad + s.b1());
    detail::kilo_outer_by_entry(t.e_x, s.n_position(), dL_dh0, w, rows, grad + s.w0());
    detail::add_rows(dL_dh0, rows, w, grad + s.b0());
  }
  if (needs_inputs) to_inputs(dL_dh0, t.w0, t.e_x, s.position_frequencies, t.b, dx);
}

// From the gradient of the merged matrix to those of its two factors, added to `grad`: with M = W2 W3 (input-major)
// dW2 = dM W3^T, dW3 = W2^T dM, and the same for the bias m = b2 W3 + b3.
template <typename T>
void kilo_end_backward(const KiloShape& s, const T* net, const KiloTile<T>& t, T* grad) {
  const int64_t w = s.width;
  pack_input_major(net + s.w3(), w, w, t.w3);
  gemm_rows(t.dL_dm, w, t.w3, w, w, {grad + s.w2(), w}, grad + s.w2(), w, w);
  gemm_rows(t.dL_dm_bias, w, t.w3, w, w, {grad + s.b2()}, grad + s.b2(), w, 1);
  gemm_outer(net + s.w2(), w, t.dL_dm, w, w, w, w, grad + s.w3());
  gemm_outer(net + s.b2(), w, t.dL_dm_bias, w, w, w, 1, grad + s.w3());
  detail::add_rows(t.dL_dm_bias, 1, w, grad + s.b3());
}

}  // namespace nf::cpu
