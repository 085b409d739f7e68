// SPDX-License-Identifier: Apache-2.0
// Matrix products on tiles of samples, the building blocks of every CPU kernel with a small MLP inside. Rows are
// samples, SIMD lanes are columns, and a micro-tile of accumulators stays in registers over the whole sum, so forward,
// input gradient and weight gradient all run on row-major data without a transpose:
//   gemm_rows   C[i, :]  = init[i, :] + sum_k A[i, k] B[k, :]    forward (B input-major) and dX (B output-major)
//   gemm_outer  dW[o, :] += sum_i dY[i, o] X[i, :]               weight gradient
//   gemm_dot    C[i, o]  = init[i, o] + sum_k A[i, k] W[o, k]    a few outputs (n_out <= 4), lanes run along k
// Every output of gemm_rows and gemm_outer is one chain of madd in the order of the sum: it depends neither on the
// position in a tile nor on how samples are cut into tiles. gemm_dot sums kLanes chains and adds them pairwise.
#pragma once

#include <cstdint>
#include <utility>

#include "core/bf16.h"
#include "core/cpu_features.h"
#include "core/scalar.h"
#include "core/simd.h"

namespace nf::cpu {

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kLanes * 4)));
};
template <>
struct VectorOf<bf16_pair> {
  using type = vu;
};
template <typename T>
using Vector = typename VectorOf<T>::type;  // vf, half as many doubles, or as many pairs as floats

// What products of T are summed in.
template <typename T>
struct SumOf {
  using type = T;
};
template <>
struct SumOf<bf16_pair> {
  using type = float;
};
template <typename T>
using Sum = typename SumOf<T>::type;

template <typename T>
constexpr int kWidth = kLanes * 4 / static_cast<int>(sizeof(T));

// Whether this module may hold products of bf16 pairs; bf16_products() says whether the machine has them.
#if defined(__AVX512F__)
constexpr bool kBf16Products = true;
inline bool bf16_products() {
  static const bool supported = cpu_features().avx512_bf16;
  return supported;
}
#else
constexpr bool kBf16Products = false;
inline bool bf16_products() { return false; }
#endif

// Rows of the last dimension are padded to this many values wherever lanes are columns (as tiny-cuda-nn pads matrices).
constexpr int kColumnMultiple = 16;

// Architectural vector registers: they set how many accumulators a micro-tile may hold.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif
constexpr int kMaxTileVectors = kVectorRegisters / 8;

// An epilogue is applied to each vector of outputs before it is stored; after(n) is told once that n rows are.
struct NoEpilogue {
  template <typename V>
  NF_HD V operator()(V v, int64_t, int64_t) const {
    return v;
  }
  NF_HD void after(int) const {}
};

namespace detail {

constexpr int kRowAccumulators = kVectorRegisters * 3 / 4;
constexpr int kOuterAccumulators = kVectorRegisters / 2;  // tiles then divide 16 outputs evenly

template <typename T>
NF_HD Vector<T> load_vector(const T* p) {
  Vector<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <typename T, typename V>  // not Vector<T>, which Clang would look for in an array of bf16
NF_HD void store_vector(T* p, V v) {
  static_assert(sizeof(V) == kWidth<T> * sizeof(T));
  std::memcpy(p, &v, sizeof v);
}
NF_HD void store_vector(bf16* p, vf v) { store(p, v); }
NF_HD vf multiply_add(float a, vf b, vf c) { return madd(splat(a), b, c); }
NF_HD Vector<double> multiply_add(double a, Vector<double> b, Vector<double> c) { return a * b + c; }
NF_HD vf multiply_add(vf a, vf b, vf c) { return madd(a, b, c); }
NF_HD Vector<double> multiply_add(Vector<double> a, Vector<double> b, Vector<double> c) { return a * b + c; }
// c + a_low b_low + a_high b_high in every lane
NF_HD vf multiply_add(vu a, vu b, vf c) {
#if defined(__AVX512F__)
  asm("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));  // as in core/bf16.h
  return c;
#else
  const vu mask = splat(0xffff0000u);
  c = madd(from_bits((vi)(a << 16)), from_bits((vi)(b << 16)), c);
  return madd(from_bits((vi)(a & mask)), from_bits((vi)(b & mask)), c);
#endif
}
NF_HD vf multiply_add(bf16_pair a, vu b, vf c) { return multiply_add(splat(a.bits), b, c); }

// Left operand of a product: element (row, k). One of the two strides is 1 and known to the compiler.
template <typename T>
struct RowMajor {
  const T* data;
  int64_t stride;
  NF_HD RowMajor at_row(int64_t row) const { return {data + row * stride, stride}; }
  NF_HD void next_k() { ++data; }
  NF_HD T operator[](int row) const {
    T value;  // pairs are read from an array of bf16
    std::memcpy(&value, data + row * stride, sizeof value);
    return value;
  }
};
template <typename T>
struct ColumnMajor {
  const T* data;
  int64_t stride;
  NF_HD ColumnMajor at_row(int64_t row) const { return {data + row, stride}; }
  NF_HD void next_k() { data += stride; }
  NF_HD T operator[](int row) const { return data[row]; }
};

}  // namespace detail

// What a product starts from: zero, one row for all (a bias: stride 0), a row each, or row index[i] of `values` each.
template <typename T>
struct Init {
  const T* values = nullptr;
  int64_t stride = 0;
  const int32_t* index = nullptr;
};

namespace detail {

// What a product needs besides its left operand. B: elements of the right operand, C: of the result.
template <typename B, typename C>
struct Product {
  const B* b;
  int64_t ldb;
  int64_t n_sum;
  Init<Sum<B>> init;
  C* c;
  int64_t ldc;
};

// R x (V vectors) outputs starting at (row, column).
template <int R, int V, typename B, typename C, typename Left, typename Epilogue>
NF_HD void micro_tile(Left a, const Product<B, C>& p, int64_t row, int64_t column, const Epilogue& epilogue) {
  constexpr int w = kWidth<Sum<B>>;
  Vector<Sum<B>> acc[R][V] = {};
  if (p.init.values) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const Sum<B>* init = p.init.values + (p.init.index ? p.init.index[row + r] : row + r) * p.init.stride + column;
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) acc[r][v] = load_vector(init + v * w);
    }
  }
  const B* b = p.b + column;
  const int64_t n_sum = p.n_sum, ldb = p.ldb, ldc = p.ldc;
  a = a.at_row(row);
  for (int64_t k = 0; k < n_sum; ++k, b += ldb, a.next_k()) {
    Vector<B> bv[V];
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) bv[v] = load_vector(b + v * w);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) acc[r][v] = multiply_add(a[r], bv[v], acc[r][v]);
  }
  const Epilogue own = epilogue;  // a copy that no store can change, so that its values stay in registers
  C* c = p.c + row * ldc + column;
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r, c += ldc)
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) store_vector(c + v * w, own(acc[r][v], row + r, column + v * w));
  if (column == 0) own.after(R);
}

// Rows [row, n_rows) of V vectors of columns: tiles of R rows, what is left in tiles of half as many, or of a third
// where that still makes the eight chains of madd that fill a pipeline.
template <int R, int V, typename B, typename C, typename Left, typename Epilogue>
void column_panel(Left a, const Product<B, C>& p, int64_t row, int64_t n_rows, int64_t column,
                  const Epilogue& epilogue) {
  for (; row + R <= n_rows; row += R) micro_tile<R, V>(a, p, row, column, epilogue);
  if constexpr (R > 1) {
    constexpr int rest = R % 3 == 0 && R / 3 * V >= 8 ? R / 3 : R / 2;
    if (row < n_rows) column_panel<rest, V>(a, p, row, n_rows, column, epilogue);
  }
}

// `Accumulators` vectors per micro-tile: R = Accumulators / V, but no more than 16 rows of one vector, where the
// broadcast loads and their addresses would limit, not the arithmetic.
template <int Accumulators, typename B, typename C, typename Left, typename Epilogue>
void product(Left a, const Product<B, C>& p, int64_t n_rows, int64_t n_columns, const Epilogue& epilogue) {
  constexpr int w = kWidth<Sum<B>>;
  for (int64_t column = 0; column < n_columns;) {
    const int64_t vectors = (n_columns - column) / w;
    if (vectors >= kMaxTileVectors) {
      column_panel<Accumulators / kMaxTileVectors, kMaxTileVectors>(a, p, 0, n_rows, column, epilogue);
      column += kMaxTileVectors * w;
      continue;
    }
    if constexpr (kMaxTileVectors == 4 && w > 4) {  // 16 columns are a multiple of kMaxTileVectors otherwise
      if (vectors == 3) column_panel<Accumulators / 3, 3>(a, p, 0, n_rows, column, epilogue);
      if (vectors == 2) column_panel<Accumulators / 2, 2>(a, p, 0, n_rows, column, epilogue);
      if (vectors == 1)
        column_panel<(Accumulators > 16 ? Accumulators / 2 : Accumulators), 1>(a, p, 0, n_rows, column, epilogue);
      column += vectors * w;
    }
  }
}

// Lane l of the result: with bit S of l clear a[l] + a[l ^ S], with it set b[l] + b[l ^ S].
template <int S, typename V, std::size_t... Lane>
NF_HD V add_swapped(V a, V b, std::index_sequence<Lane...>) {
  constexpr int w = sizeof...(Lane);
#if defined(__clang__)
  return __builtin_shufflevector(a, b, ((Lane & S) ? int(Lane) + w : int(Lane))...) +
         __builtin_shufflevector(a, b, ((Lane & S) ? int(Lane ^ S) + w : int(Lane ^ S))...);
#else
  using I = decltype(a < b);
  return __builtin_shuffle(a, b, I{((Lane & S) ? int(Lane) + w : int(Lane))...}) +
         __builtin_shuffle(a, b, I{((Lane & S) ? int(Lane ^ S) + w : int(Lane ^ S))...});
#endif
}

// v[0 .. W-1] -> one vector whose lane l is the sum of all lanes of v[l]; v is overwritten.
template <int S, int W, typename V>
NF_HD V sum_lanes(V* v) {
  if constexpr (S == W) {
    return v[0];
  } else {
#pragma GCC unroll 32
    for (int j = 0; j < W / (2 * S); ++j) v[j] = add_swapped<S>(v[2 * j], v[2 * j + 1], std::make_index_sequence<W>{});
    return sum_lanes<2 * S, W>(v);
  }
}

// R rows x O outputs by dot products; out [R * O], with room for whole vectors. T: float, double or pairs.
template <int R, int O, typename T>
NF_HD void dot_tile(const T* a, int64_t lda, const T* w, int64_t ldw, int64_t n_sum, Sum<T>* out) {
  constexpr int lanes = kWidth<T>, n_vectors = (R * O + lanes - 1) / lanes * lanes;
  Vector<Sum<T>> acc[n_vectors] = {};
  for (int64_t k = 0; k < n_sum; k += lanes) {
    Vector<T> wv[O];
#pragma GCC unroll 4
    for (int o = 0; o < O; ++o) wv[o] = load_vector(w + o * ldw + k);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector<T> av = load_vector(a + r * lda + k);
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) acc[r * O + o] = multiply_add(av, wv[o], acc[r * O + o]);
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < n_vectors; g += lanes) store_vector(out + g, sum_lanes<1, lanes>(acc + g));
}

// Rows that are left over are taken with the ones before them, which come out the same again, where there are R rows.
template <int R, int O, typename T>
void dot_rows(const T* a, int64_t lda, const T* w, int64_t ldw, int64_t n_sum, const Sum<T>* init, Sum<T>* c,
              int64_t ldc, int64_t n_rows) {
  if constexpr (R > 1) {
    if (n_rows < R) return dot_rows<1, O>(a, lda, w, ldw, n_sum, init, c, ldc, n_rows);
  }
  for (int64_t done = 0; done < n_rows; done += R) {
    const int64_t row = min(done, n_rows - R);
    Sum<T> out[R * O + kWidth<T>];
    dot_tile<R, O>(a + row * lda, lda, w, ldw, n_sum, out);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) c[(row + r) * ldc + o] = init ? out[r * O + o] + init[o] : out[r * O + o];
  }
}

inline const bf16_pair* as_pairs(const bf16* p) { return reinterpret_cast<const bf16_pair*>(p); }

}  // namespace detail

// C[i, :] = epilogue(init_i + sum_k A[i, k] B[k, :]), i < n_rows. A [n_rows, n_sum] with row stride lda,
// B [n_sum, n_columns] contiguous, C row stride ldc; n_columns is a multiple of 16, n_sum and n_rows are free.
// C may not overlap A. `epilogue(vector, row, column)` is applied to every vector before it is stored.
template <typename T, typename Epilogue = NoEpilogue>
void gemm_rows(const T* a, int64_t lda, const T* b, int64_t n_sum, int64_t n_columns, const Init<Sum<T>>& init, T* c,
               int64_t ldc, int64_t n_rows, const Epilogue& epilogue = {}) {
  const detail::Product<T, T> p{b, n_columns, n_sum, init, c, ldc};
  detail::product<detail::kRowAccumulators>(detail::RowMajor<T>{a, lda}, p, n_rows, n_columns, epilogue);
}
// The same with A in bf16, B as pairs of its rows (pack_pairs), n_sum and lda even, C in float or bf16.
template <typename C, typename Epilogue = NoEpilogue>
void gemm_rows(const bf16* a, int64_t lda, const bf16_pair* b, int64_t n_sum, int64_t n_columns,
               const Init<float>& init, C* c, int64_t ldc, int64_t n_rows, const Epilogue& epilogue = {}) {
  const detail::Product<bf16_pair, C> p{b, n_columns, n_sum / 2, init, c, ldc};
  const detail::RowMajor<bf16_pair> left{detail::as_pairs(a), lda / 2};
  detail::product<detail::kRowAccumulators>(left, p, n_rows, n_columns, epilogue);
}

// dW[o, k] += sum_i dY[i, o] X[i, k]. dY [n_rows, n_out], X [n_rows, n_in], dW [n_out, n_in] contiguous; n_in is a
// multiple of 16, n_out is free. T: float, double, or pairs of rows (pair_rows), of which there are n_rows then.
template <typename T>
void gemm_outer(const T* dL_dy, int64_t ldy, const T* x, int64_t ldx, int64_t n_out, int64_t n_in, int64_t n_rows,
                Sum<T>* dL_dw) {
  const detail::Product<T, Sum<T>> p{x, ldx, n_rows, {dL_dw, n_in}, dL_dw, n_in};
  detail::product<detail::kOuterAccumulators>(detail::ColumnMajor<T>{dL_dy, ldy}, p, n_out, n_in, NoEpilogue{});
}

// packed [n_in, n_out] = transpose of w [n_out, n_in]: the input-major copy that the forward gemm_rows reads. By lines
// of `packed`: value after value into rows of 256 floats, which share cache sets, takes 18 times as long.
template <typename T>
void pack_input_major(const T* w, int64_t n_out, int64_t n_in, T* packed) {
  for (int64_t first = 0; first < n_out; first += kColumnMultiple) {
    const int64_t end = min(first + kColumnMultiple, n_out);
    for (int64_t k = 0; k < n_in; ++k)
      for (int64_t o = first; o < end; ++o) packed[k * n_out + o] = w[o * n_in + k];
  }
}

inline bf16_pair pair_of(bf16 low, bf16 high) { return {low.bits | uint32_t(high.bits) << 16}; }

// packed [n_rows / 2, n_columns]: rows 2 i and 2 i + 1 of w [n_rows, n_columns], rounded, side by side; n_rows is even.
inline void pack_pairs(const float* w, int64_t n_rows, int64_t n_columns, bf16_pair* packed) {
  for (int64_t i = 0; i < n_rows; i += 2)
    for (int64_t k = 0; k < n_columns; ++k)
      *packed++ = pair_of(to_bf16(w[i * n_columns + k]), to_bf16(w[(i + 1) * n_columns + k]));
}

// The same for rows of activations, as gemm_outer wants them; an odd last row is paired with zeros. The number of pairs
// is (n_rows + 1) / 2; n_columns is a multiple of 4.
inline void pair_rows(const bf16* a, int64_t lda, int64_t n_rows, int64_t n_columns, bf16_pair* pairs) {
  const bf16 zeros[kColumnMultiple] = {};
  for (int64_t i = 0; i < n_rows; i += 2, a += 2 * lda, pairs += n_columns) {
    const bool odd = i + 1 == n_rows;
    int64_t k = 0;
    for (; k + kColumnMultiple <= n_columns; k += kColumnMultiple)
      pair_columns<kColumnMultiple>(a + k, odd ? zeros : a + lda + k, pairs + k);
    for (; k < n_columns; k += 4) pair_columns<4>(a + k, odd ? zeros : a + lda + k, pairs + k);
  }
}

// C[i, o] = init[o] + sum_k A[i, k] W[o, k], o < n_out <= 4. W [n_out, n_sum] with row stride ldw (output-major, as in
// the layout of the parameters); n_sum is a multiple of 16. `init` [n_out] may be null. C may not overlap A. T: float,
// double, or pairs, which n_sum and the strides then count.
template <typename T>
void gemm_dot(const T* a, int64_t lda, const T* w, int64_t ldw, int64_t n_sum, int n_out, const Sum<T>* init, Sum<T>* c,
              int64_t ldc, int64_t n_rows) {
  constexpr int lanes = kWidth<T>;
  if (n_out == 1) detail::dot_rows<min(lanes, 8), 1>(a, lda, w, ldw, n_sum, init, c, ldc, n_rows);
  if (n_out == 2) detail::dot_rows<lanes / 2, 2>(a, lda, w, ldw, n_sum, init, c, ldc, n_rows);
  if (n_out == 3) detail::dot_rows<max(lanes / 3, 1), 3>(a, lda, w, ldw, n_sum, init, c, ldc, n_rows);
  if (n_out == 4) detail::dot_rows<max(lanes / 4, 1), 4>(a, lda, w, ldw, n_sum, init, c, ldc, n_rows);
}
// The same in bf16, with n_sum a multiple of 2 kLanes.
inline void gemm_dot(const bf16* a, int64_t lda, const bf16* w, int64_t ldw, int64_t n_sum, int n_out,
                     const float* init, float* c, int64_t ldc, int64_t n_rows) {
  gemm_dot(detail::as_pairs(a), lda / 2, detail::as_pairs(w), ldw / 2, n_sum / 2, n_out, init, c, ldc, n_rows);
}

}  // namespace nf::cpu
