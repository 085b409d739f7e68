// SPDX-License-Identifier: Apache-2.0
// The weights of one small MLP in the two orders that gemm_rows wants, and its layers on tiles of rows. The inputs may
// come in two parts: `main` differs from row to row, `side` is shared by the rows of one ray, so that its product with
// the first matrix (and that matrix's gradient) is formed once per ray.
#pragma once

#include <new>
#include <type_traits>
#include <vector>

#include "cpu/fused_radiance.h"
#include "cpu/mlp_tile.h"
#include "math/activation.h"

namespace nf::cpu {

constexpr int padded(int n) { return (n + kColumnMultiple - 1) / kColumnMultiple * kColumnMultiple; }

// Cache-line alignment: a vector load of 64 bytes that straddles two lines costs twice.
constexpr std::size_t kLineBytes = 64;
template <typename T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <typename U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(kLineBytes))); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(kLineBytes)); }
  template <typename U>
  bool operator==(const LineAllocator<U>&) const {
    return true;
  }
};
template <typename T>
using AlignedVector = std::vector<T, LineAllocator<T>>;

// What products with activations of type A (float, bf16) read: B is float or pairs of bf16.
template <typename A>
struct WeightsOf {
  using B = A;
};
template <>
struct WeightsOf<bf16> {
  using B = bf16_pair;
};
template <typename A>
struct LayerWeights {
  const typename WeightsOf<A>::B* input_major;   // [n_in, n_out], for the forward pass
  const typename WeightsOf<A>::B* output_major;  // [n_out, n_in], for the input gradient
  const A* rows;                                 // [n_out, n_in], for dot products
};

// One matrix [n_out, n_in]; both sizes padded to whole columns.
struct PackedLayer {
  int n_in, n_out, n_out_used;
  int64_t gradient;  // offset of its gradient [n_out, n_in] in a gradient block
  LayerWeights<float> single;
  LayerWeights<bf16> brief;  // null unless the field asks for products in bf16
};
template <typename A>
const LayerWeights<A>& weights_of(const PackedLayer& layer) {
  if constexpr (std::is_same_v<A, bf16>)
    return layer.brief;
  else
    return layer.single;
}

class PackedNet {
 public:
  // The first n_main inputs are the main part; the others, with the padding, are the side part.
  PackedNet(const FusedNet& net, int n_main, bool with_bf16);

  const std::vector<PackedLayer>& layers() const { return layers_; }
  const PackedLayer& side() const { return side_; }
  int width() const { return net_.width; }
  int n_hidden() const { return net_.n_hidden; }
  int n_outputs() const { return net_.n_outputs; }
  Activation activation() const { return net_.activation; }
  Activation output_activation() const { return net_.output_activation; }
  int64_t gradient_size() const { return gradient_size_; }

  // Copies a gradient block (all matrices, side last) to the layout of FusedNet::params; padding gets zeros.
  void unpack_gradient(const float* block, float* dL_dparams) const;

 private:
  PackedLayer add_matrix(const float* params, int64_t row_stride, int n_out, int n_out_used, int first, int n_in);

  FusedNet net_;
  int n_main_;
  std::vector<PackedLayer> layers_;
  PackedLayer side_{};
  bool with_bf16_;
  std::vector<AlignedVector<float>> floats_;
  std::vector<AlignedVector<bf16>> brief_;
  std::vector<AlignedVector<bf16_pair>> pairs_;
  int64_t gradient_size_ = 0;
};

// Number of values of a net's params.
int64_t param_count(const FusedNet& net);

}  // namespace nf::cpu
