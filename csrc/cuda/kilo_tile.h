// SPDX-License-Identifier: Apache-2.0
// Layers of the tiny networks (math/kilo_mlp.h) for a tile of samples in shared memory, entry by entry
// ([entry][sample]), 4 x 4 results of a product to a thread. Threads of a warp share their weights in products, and
// rows are 16 bytes longer than a multiple of 128, so that neighbouring ones do not meet in a bank in sums over
// samples. A function `net` of a sample's row gives the parameters of its network; four rows from a multiple of four on
// have the same.
#pragma once

#include "cuda/launch.h"
#include "math/activation.h"
#include "math/kilo_mlp.h"

namespace nf::cuda {

constexpr int kKiloThreads = 128;
template <typename T>
constexpr int kKiloRows = 256 / sizeof(T);
template <typename T>
constexpr int kKiloStride = kKiloRows<T> + 16 / sizeof(T);

template <typename T>
struct alignas(16) Four {
  T v[4];
};
template <typename T>
NF_DEVICE Four<T> load_four(const T* p) {
  return *reinterpret_cast<const Four<T>*>(p);
}

// bias [width], and the rows of a matrix [n_in, width]: those from n_first on lie at `more`.
template <typename T>
struct KiloLayer {
  const T *bias, *first;
  int n_first;
  const T* more;

  NF_DEVICE KiloLayer(const T* bias, const T* w) : bias(bias), first(w), n_first(1 << 30), more(w) {}
  NF_DEVICE KiloLayer(const T* bias, const T* first, int n_first, const T* more)
      : bias(bias), first(first), n_first(n_first), more(more) {}
  NF_DEVICE const T* row(int k, int width) const {
    return k < n_first ? first + k * width : more + (k - n_first) * width;
  }
};

// out[o][row] = activation(bias[o] + sum over k of in[k][row] w[k][o]) of 4 n_groups rows, with layer(row).
template <bool kRelu, typename T, typename Layer>
NF_DEVICE void dense(const T* in, int n_in, int n_groups, const Layer& layer, int width, T* out) {
  NF_ROLL for (int block = threadIdx.x; block < n_groups * width / 4; block += kKiloThreads) {
    const int row = block % n_groups * 4, o = block / n_groups * 4;
    const KiloLayer<T> of = layer(row);
    Four<T> sums[4];
    NF_UNROLL for (int j = 0; j < 4; ++j) NF_UNROLL for (int i = 0; i < 4; ++i) sums[j].v[i] = of.bias[o + j];
    NF_ROLL for (int k = 0; k < n_in; ++k) {
      const Four<T> a = load_four(in + k * kKiloStride<T> + row), b = load_four(of.row(k, width) + o);
      NF_UNROLL for (int j = 0; j < 4; ++j) NF_UNROLL for (int i = 0; i < 4; ++i) sums[j].v[i] =
          madd(a.v[i], b.v[j], sums[j].v[i]);
    }
    NF_UNROLL for (int j = 0; j < 4; ++j) {
      if (kRelu)
        NF_UNROLL for (int i = 0; i < 4; ++i) sums[j].v[i] = activation_forward<Activation::kReLU>(sums[j].v[i]);
      *reinterpret_cast<Four<T>*>(out + (o + j) * kKiloStride<T> + row) = sums[j];
    }
  }
}

// What a head adds up: bias + sum over k of h[k][row] w[k].
template <typename T>
NF_DEVICE T head(const T* h, const T* w, T bias, int width, int row) {
  T sum = bias;
  NF_ROLL for (int k = 0; k < width; ++k) sum = madd(h[k * kKiloStride<T> + row], w[k], sum);
  return sum;
}

// Entries of the encoding of a vector, to one row.
template <typename T>
NF_DEVICE void encode_row(const T (&v)[3], int n_frequencies, T* row) {
  kilo_encode(v, n_frequencies, [=](int j, int axis, T value) { row[(3 * j + axis) * kKiloStride<T>] = value; });
}

// h0 and h1 from the entries of positions; the caller's barrier is in front of it, and must be behind it.
template <typename T, typename Net>
NF_DEVICE void hidden_rows(const KiloShape& s, const Net& net, int n_groups, const T* e_x, T* h0, T* h1) {
  dense<true>(
      e_x, s.n_position(), n_groups, [&](int row) { return KiloLayer<T>(net(row) + s.b0(), net(row) + s.w0()); },
      s.width, h0);
  __syncthreads();
  dense<true>(
      h0, s.width, n_groups, [&](int row) { return KiloLayer<T>(net(row) + s.b1(), net(row) + s.w1()); }, s.width, h1);
}
// Density of a row before its activation, and a channel of its colour.
template <typename T>
NF_DEVICE T density_of(const KiloShape& s, const T* net, const T* h1, int row) {
  return head(h1, net + s.w_sigma(), net[s.b_sigma()], s.width, row);
}
template <typename T>
NF_DEVICE T color_of(const KiloShape& s, const T* net, const T* h2, int channel, int row) {
  return sigmoid(head(h2, net + s.w_rgb() + channel * s.width, net[s.b_rgb() + channel], s.width, row));
}

}  // namespace nf::cuda
