// SPDX-License-Identifier: Apache-2.0
// The perceptron in its own precision (float or double), without tensor cores. A thread block carries kRows samples
// through all layers in shared memory; products are cut into chunks of 64 outputs by 64 inputs, whose weights pass
// through shared memory, 4 x 4 results to a thread. Rows of both operands are 4 values longer than a multiple of 16, so
// that neither 16-byte loads of 8 rows nor of 8 outputs meet in a bank. Modulation takes four threads to a row, between
// a product and its activation.
#include <algorithm>
#include <type_traits>

#include "cuda/launch.h"
#include "math/modulation.h"
#include "ops/fused_mlp.h"

namespace nf::cuda {
namespace {

constexpr int kRows = 32;
constexpr int kThreads = 128;
constexpr int kChunk = 64;
constexpr int kSkew = 4;
constexpr int kWeightStride = kChunk + kSkew;
constexpr int kRowGroups = 8, kColumnGroups = 16;  // of threads

template <typename Run>
NF_DEVICE void with_activation(Activation kind, const Run& run) {
  using A = Activation;
#define NF_CASE(name) \
  case A::name:       \
    return run(std::integral_constant<A, A::name>());
  switch (kind) {
    NF_CASE(kReLU)
    NF_CASE(kLeakyReLU)
    NF_CASE(kSiLU)
    NF_CASE(kExponential)
    NF_CASE(kSine)
    NF_CASE(kSigmoid)
    NF_CASE(kSquareplus)
    NF_CASE(kSoftplus)
    NF_CASE(kTanh)
    NF_CASE(kGaussian)
    NF_CASE(kGabor)
    NF_CASE(kFiner)
    default:
      return run(std::integral_constant<A, A::kNone>());
  }
#undef NF_CASE
}
template <typename T>
NF_DEVICE T activated(Activation kind, T z, ActivationArguments arguments) {
  with_activation(kind, [&](auto k) { z = activation_forward<decltype(k)::value>(z, arguments); });
  return z;
}
template <typename T>
NF_DEVICE T slope(Activation kind, T stored, ActivationArguments arguments) {
  with_activation(kind, [&](auto k) { stored = activation_derivative<decltype(k)::value>(stored, arguments); });
  return stored;
}

template <typename T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Four {
  T v[4];
};

int stride_of(const MlpShape& shape) {
  return static_cast<int>(std::max({shape.n_neurons, shape.padded_inputs(), shape.padded_outputs()})) + kSkew;
}

// One thread block's shared memory: two buffers of rows [kRows, stride] and a chunk of weights.
template <typename T>
struct Tile {
  T *rows, *other, *weights;
  int stride;
  NF_DEVICE Tile(T* memory, int stride)
      : rows(memory), other(rows + kRows * stride), weights(other + kRows * stride), stride(stride) {}
  static int bytes(int stride) { return (2 * kRows * stride + kChunk * kWeightStride) * static_cast<int>(sizeof(T)); }
  NF_DEVICE void turn() {
    T* rows_before = rows;
    rows = other;
    other = rows_before;
  }
};

// c[row][column] = sum over k of a[row][k] b(column, k), for n_columns and n_k multiples of 16: calls
// store(row, column, sum) for all. `b` is read from global memory once, neighbouring threads on neighbouring values
// of `column` (kColumnsFirst) or of k. Starts with a barrier.
template <bool kColumnsFirst, typename T, typename B, typename Start, typename Store>
NF_DEVICE void product(const T* a, int stride, T* weights, int n_columns, int n_k, const B& b, const Start& start,
                       const Store& store) {
  const int row_group = threadIdx.x / kColumnGroups, column_group = threadIdx.x % kColumnGroups;
#pragma unroll 1
  for (int column0 = 0; column0 < n_columns; column0 += kChunk) {
    T sums[4][4];  // rows row_group + 8 i, columns column0 + column_group + 16 j
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int column = column0 + column_group + kColumnGroups * j;
      const T first = column < n_columns ? start(column) : T(0);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i][j] = first;
    }
#pragma unroll 1
    for (int k0 = 0; k0 < n_k; k0 += kChunk) {
      __syncthreads();
#pragma unroll 1
      for (int i = threadIdx.x; i < kChunk * kChunk; i += kThreads) {
        const int column = kColumnsFirst ? i % kChunk : i / kChunk, k = kColumnsFirst ? i / kChunk : i % kChunk;
        const bool inside = column0 + column < n_columns && k0 + k < n_k;
        weights[column * kWeightStride + k] = inside ? b(column0 + column, k0 + k) : T(0);
      }
      __syncthreads();
      const int end = min(kChunk, n_k - k0);
#pragma unroll 1
      for (int k = 0; k < end; k += 4) {
        Four<T> left[4], right[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          left[i] = *reinterpret_cast<const Four<T>*>(a + (row_group + kRowGroups * i) * stride + k0 + k);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          right[j] =
              *reinterpret_cast<const Four<T>*>(weights + (column_group + kColumnGroups * j) * kWeightStride + k);
#pragma unroll
        for (int s = 0; s < 4; ++s)
#pragma unroll
          for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) sums[i][j] = madd(left[i].v[s], right[j].v[s], sums[i][j]);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int column = column0 + column_group + kColumnGroups * j;
      if (column >= n_columns) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) store(row_group + kRowGroups * i, column, sums[i][j]);
    }
  }
}

// rows [kRows, n_columns] of a tile from memory [n, n_used]; zero past the last sample, `padding` past the last column.
template <typename T>
NF_DEVICE void load_rows(const T* from, int64_t first, int64_t n, int n_used, int n_columns, T padding, T* to,
                         int stride) {
#pragma unroll 1
  for (int i = threadIdx.x; i < kRows * n_columns; i += kThreads) {
    const int row = i / n_columns, column = i % n_columns;
    T value = 0;
    if (first + row < n) value = column < n_used ? from[(first + row) * n_used + column] : padding;
    to[row * stride + column] = value;
  }
}

// ---- modulation: four threads to a row ----

constexpr int kRowThreads = kThreads / kRows;
static_assert(kRowThreads == 4);

// The sum of the four threads of a row.
template <typename T>
NF_DEVICE T row_sum(T value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

// Scale and shift of samples, their gradients (null: not wanted), and 1 / deviation where layers are normalised.
template <typename T>
struct Modulation {
  const T* values;  // [n, n_modulation]; null: none
  T* gradients;
  T* deviations;  // [n_hidden_layers, n]; null: not kept

  NF_DEVICE int64_t at(const MlpShape& shape, int l, int64_t i) const {
    return i * shape.n_modulation + (shape.n_modulation > 2 ? 2 * l : 0);
  }
};

// z of hidden layer l in `rows` becomes gamma zhat + beta; zhat is kept at `saved` [n, width], which may be null.
template <typename T>
NF_DEVICE void modulate_rows(const MlpShape& shape, const Modulation<T>& modulation, int l, int64_t first, int64_t n,
                             T* rows, int stride, T* saved) {
  const int width = static_cast<int>(shape.n_neurons), begin = threadIdx.x % kRowThreads;
  const int64_t i = first + threadIdx.x / kRowThreads;
  T* z = rows + threadIdx.x / kRowThreads * stride;
  T mean = 0, inverse = 1;
  if (shape.normalizes) {
#pragma unroll 1
    for (int k = begin; k < width; k += kRowThreads) mean += z[k];
    mean = row_sum(mean) / static_cast<T>(width);
    T squares = 0;
#pragma unroll 1
    for (int k = begin; k < width; k += kRowThreads) squares += (z[k] - mean) * (z[k] - mean);
    inverse = inverse_deviation(row_sum(squares), static_cast<T>(width));
    if (modulation.deviations && begin == 0 && i < n) modulation.deviations[l * n + i] = inverse;
  }
  const T* values = modulation.values + modulation.at(shape, l, i);
  const T gamma = i < n ? values[0] : T(0), beta = i < n ? values[1] : T(0);
#pragma unroll 1
  for (int k = begin; k < width; k += kRowThreads) {
    const T zhat = (z[k] - mean) * inverse;
    if (saved && i < n) saved[i * width + k] = zhat;
    z[k] = madd(gamma, zhat, beta);
  }
}

// zhat of hidden layer l in `rows` becomes what its activation gave.
template <typename T>
NF_DEVICE void modulated_outputs(const MlpShape& shape, const Modulation<T>& modulation, int l, int64_t first,
                                 int64_t n, T* rows, int stride) {
  const int64_t i = first + threadIdx.x / kRowThreads;
  T* h = rows + threadIdx.x / kRowThreads * stride;
  const T* values = modulation.values + modulation.at(shape, l, i);
  const T gamma = i < n ? values[0] : T(0), beta = i < n ? values[1] : T(0);
#pragma unroll 1
  for (int k = threadIdx.x % kRowThreads; k < shape.n_neurons; k += kRowThreads)
    h[k] = i < n ? activated(shape.activation, madd(gamma, h[k], beta), shape.arguments_of(l)) : T(0);
}

// dL/dh of hidden layer l in `rows` becomes dL/dz; `saved` [n, width] holds zhat. Gradients of gamma and beta that all
// layers share are added up from the last hidden layer down.
template <typename T>
NF_DEVICE void modulated_gradients(const MlpShape& shape, const Modulation<T>& modulation, int l, int64_t first,
                                   int64_t n, const T* saved, T* rows, int stride) {
  const int width = static_cast<int>(shape.n_neurons), begin = threadIdx.x % kRowThreads;
  const int64_t i = first + threadIdx.x / kRowThreads, at = modulation.at(shape, l, i);
  T* grad = rows + threadIdx.x / kRowThreads * stride;
  const T gamma = i < n ? modulation.values[at] : T(0), beta = i < n ? modulation.values[at + 1] : T(0);
  const T* zhat = saved + (i < n ? i : 0) * width;
  T d_gamma = 0, d_beta = 0;
#pragma unroll 1
  for (int k = begin; k < width; k += kRowThreads) {
    T stored = madd(gamma, zhat[k], beta);
    if (!stores_input(shape.activation)) stored = activated(shape.activation, stored, shape.arguments_of(l));
    const T dv = i < n ? grad[k] * slope(shape.activation, stored, shape.arguments_of(l)) : T(0);
    d_beta += dv;
    d_gamma = madd(dv, zhat[k], d_gamma);
    grad[k] = dv;
  }
  d_gamma = row_sum(d_gamma);
  d_beta = row_sum(d_beta);
  if (modulation.gradients && begin == 0 && i < n) {
    const bool adds = shape.n_modulation == 2 && l + 1 < shape.n_hidden_layers;
    modulation.gradients[at] = (adds ? modulation.gradients[at] : T(0)) + d_gamma;
    modulation.gradients[at + 1] = (adds ? modulation.gradients[at + 1] : T(0)) + d_beta;
  }
  const T factor = gamma * (shape.normalizes && i < n ? modulation.deviations[l * n + i] : T(1));
#pragma unroll 1
  for (int k = begin; k < width; k += kRowThreads)
    grad[k] = shape.normalizes ? normalized_gradient(grad[k], zhat[k], factor, d_beta / static_cast<T>(width),
                                                     d_gamma / static_cast<T>(width))
                               : factor * grad[k];
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    mlp_forward_kernel(const MlpShape shape, const T* x, const T* params, int64_t n, T* y, T* saved,
                       const Modulation<T> modulation, int stride) {
  Tile<T> tile(dynamic_shared<T>(), stride);
  const int n_hidden = static_cast<int>(shape.n_hidden_layers);
  const int64_t n_tiles = (n + kRows - 1) / kRows;
#pragma unroll 1
  for (int64_t t = blockIdx.x; t < n_tiles; t += gridDim.x) {
    const int64_t first = t * kRows;
    __syncthreads();  // the last tile's rows have been read
    load_rows(x, first, n, static_cast<int>(shape.n_input_dims), static_cast<int>(shape.padded_inputs()),
              static_cast<T>(shape.input_padding), tile.rows, stride);
#pragma unroll 1
    for (int l = 0; l <= n_hidden; ++l) {
      const MlpLayer layer = shape.layer(l);
      const T* weights = params + layer.weights;
      const bool last = l == n_hidden;
      const int n_out = static_cast<int>(layer.n_out);
      product<false>(
          tile.rows, stride, tile.weights, n_out, static_cast<int>(layer.n_in),
          [&](int out, int in) { return weights[out * layer.n_in + in]; },
          [&](int out) { return layer.bias < 0 ? T(0) : params[layer.bias + out]; },
          [&](int row, int out, T z) { tile.other[row * stride + out] = z; });
      // Activations in a loop of their own: what they call must not cost the product registers.
      const Activation kind = last ? shape.output_activation : shape.activation;
      const ActivationArguments arguments = last ? ActivationArguments{} : shape.arguments_of(l);
      const bool is_modulated = !last && modulation.values;
      __syncthreads();
      if (is_modulated) {
        modulate_rows(shape, modulation, l, first, n, tile.other, stride,
                      saved ? saved + l * n * shape.n_neurons : nullptr);
        __syncthreads();
      }
#pragma unroll 1
      for (int j = threadIdx.x; j < kRows * n_out; j += kThreads) {
        const int row = j / n_out, out = j % n_out;
        const int64_t i = first + row;
        const T z = tile.other[row * stride + out], h = activated(kind, z, arguments);
        const T stored = stores_input(kind) ? z : h;
        if (!last) {
          tile.other[row * stride + out] = h;
          if (saved && i < n && !is_modulated) saved[(l * n + i) * shape.n_neurons + out] = stored;
        } else if (i < n && out < shape.n_output_dims) {
          y[i * shape.n_output_dims + out] = h;
          if (saved && stores_input(kind)) saved[n_hidden * n * shape.n_neurons + i * shape.n_output_dims + out] = z;
        }
      }
      tile.turn();
    }
  }
}

// slot[out][in] += sum over rows of z[row][out] h[row][in]; thread: 8 x 4 results of a 64 x 64 chunk.
template <typename T>
NF_DEVICE void add_outer(const T* z, const T* h, int stride, int n_out, int n_in, T* slot) {
  const int out_group = threadIdx.x / kColumnGroups, in_group = threadIdx.x % kColumnGroups;
#pragma unroll 1
  for (int out0 = 0; out0 < n_out; out0 += kChunk)
#pragma unroll 1
    for (int in0 = 0; in0 < n_in; in0 += kChunk) {
      T sums[8][4] = {};
#pragma unroll 1
      for (int row = 0; row < kRows; ++row) {
        T left[8], right[4];
#pragma unroll
        for (int i = 0; i < 8; ++i) left[i] = z[row * stride + min(out0 + out_group + kRowGroups * i, n_out - 1)];
#pragma unroll
        for (int j = 0; j < 4; ++j) right[j] = h[row * stride + min(in0 + in_group + kColumnGroups * j, n_in - 1)];
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[i][j] = madd(left[i], right[j], sums[i][j]);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int out = out0 + out_group + kRowGroups * i, in = in0 + in_group + kColumnGroups * j;
          if (out < n_out && in < n_in) slot[out * n_in + in] += sums[i][j];
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    mlp_backward_kernel(const MlpShape shape, const T* x, const T* params, const T* y, const T* saved, const T* dL_dy,
                        int64_t n, T* dL_dx, T* slots, const Modulation<T> modulation, int stride) {
  Tile<T> tile(dynamic_shared<T>(),
               stride);  // rows: dL/dz of a layer; other: what the layer read, then dL/dz of the layer below
  const int n_hidden = static_cast<int>(shape.n_hidden_layers), width = static_cast<int>(shape.n_neurons);
  const int n_out = static_cast<int>(shape.n_output_dims);
  const int64_t n_tiles = (n + kRows - 1) / kRows;
  T* slot = slots ? slots + blockIdx.x * shape.n_params() : nullptr;
#pragma unroll 1
  for (int64_t t = blockIdx.x; t < n_tiles; t += gridDim.x) {
    const int64_t first = t * kRows;
    __syncthreads();
    const T* outputs = stores_input(shape.output_activation) ? saved + n_hidden * n * width : y;
#pragma unroll 1
    for (int i = threadIdx.x; i < kRows * static_cast<int>(shape.padded_outputs()); i += kThreads) {
      const int row = i / static_cast<int>(shape.padded_outputs()), out = i % static_cast<int>(shape.padded_outputs());
      const int64_t at = (first + row) * n_out + out;
      const bool inside = first + row < n && out < n_out;
      tile.rows[row * stride + out] = inside ? dL_dy[at] * slope(shape.output_activation, outputs[at], {}) : T(0);
    }
#pragma unroll 1
    for (int l = n_hidden; l >= 0; --l) {
      const MlpLayer layer = shape.layer(l);
      const int layer_out = static_cast<int>(layer.n_out), layer_in = static_cast<int>(layer.n_in);
      const T* stored = l > 0 ? saved + (l - 1) * n * width : nullptr;
      if (slot) {
        __syncthreads();
        if (l == 0)
          load_rows(x, first, n, static_cast<int>(shape.n_input_dims), layer_in, static_cast<T>(shape.input_padding),
                    tile.other, stride);
        else
          load_rows(stored, first, n, width, width, T(0), tile.other, stride);
        if (l > 0 && modulation.values) {
          __syncthreads();
          modulated_outputs(shape, modulation, l - 1, first, n, tile.other, stride);
        } else if (l > 0 && stores_input(shape.activation)) {
#pragma unroll 1
          for (int i = threadIdx.x; i < kRows * width; i += kThreads) {
            T* h = tile.other + i / width * stride + i % width;  // this thread's own
            *h = first + i / width < n ? activated(shape.activation, *h, shape.arguments_of(l - 1)) : T(0);
          }
        }
        __syncthreads();
        add_outer(tile.rows, tile.other, stride, layer_out, layer_in, slot + layer.weights);
        if (layer.bias >= 0)
#pragma unroll 1
          for (int out = threadIdx.x; out < layer_out; out += kThreads) {
            T sum = 0;
#pragma unroll 1
            for (int row = 0; row < kRows; ++row) sum += tile.rows[row * stride + out];
            slot[layer.bias + out] += sum;
          }
      }
      if (l == 0 && !dL_dx) break;
      const T* weights = params + layer.weights;
      product<true>(
          tile.rows, stride, tile.weights, layer_in, layer_out,
          [&](int in, int out) { return weights[out * layer.n_in + in]; }, [](int) { return T(0); },
          [&](int row, int in, T grad) { tile.other[row * stride + in] = grad; });
      __syncthreads();
      if (l > 0 && modulation.values) {
        modulated_gradients(shape, modulation, l - 1, first, n, stored, tile.other, stride);
        tile.turn();
        continue;
      }
#pragma unroll 1
      for (int j = threadIdx.x; j < kRows * layer_in; j += kThreads) {
        const int row = j / layer_in, in = j % layer_in;
        const int64_t i = first + row;
        T* grad = tile.other + row * stride + in;
        if (l > 0)
          *grad = i < n ? *grad * slope(shape.activation, stored[i * width + in], shape.arguments_of(l - 1)) : T(0);
        else if (i < n && in < shape.n_input_dims)
          dL_dx[i * shape.n_input_dims + in] = *grad;
      }
      tile.turn();
    }
  }
}

template <typename T>
struct SumSlots {
  const T* slots;
  int64_t n_slots, n_params;
  T* sum;
  NF_HD void operator()(int64_t i) const {
    T s = 0;
    for (int64_t slot = 0; slot < n_slots; ++slot) s += slots[slot * n_params + i];
    sum[i] = s;
  }
};

int64_t slots_of(int64_t n) { return std::min<int64_t>(blocks_for(n, kRows), n_multiprocessors()); }

// Behind zhat or activations, and what the output activation keeps.
template <typename P>
P* deviations_of(const MlpShape& shape, P* saved, int64_t n) {
  return saved ? saved + (shape.saved_per_sample() - shape.n_hidden_layers) * n : nullptr;
}

}  // namespace

int64_t fused_mlp_forward_scratch(const MlpShape&) { return 0; }
int64_t fused_mlp_backward_scratch(const MlpShape& shape, int64_t n) { return slots_of(n) * shape.n_params(); }

template <typename T>
int64_t fused_mlp_shared_bytes(const MlpShape& shape) {
  return Tile<T>::bytes(stride_of(shape));
}

template <typename T>
void fused_mlp_forward(const MlpShape& shape, const T* x, const T* params, int64_t n, T* y, T* saved, T*,
                       const T* modulation) {
  const Modulation<T> modulated{modulation, nullptr, shape.normalizes ? deviations_of(shape, saved, n) : nullptr};
  const int stride = stride_of(shape);
  launch_persistent("fused_mlp_forward", mlp_forward_kernel<T>,
                    Grid{blocks_for(n, kRows), kThreads, Tile<T>::bytes(stride)}, shape, x, params, n, y, saved,
                    modulated, stride);
}

template <typename T>
void fused_mlp_backward(const MlpShape& shape, const T* x, const T* params, const T* y, const T* saved, const T* dL_dy,
                        int64_t n, T* dL_dx, T* dL_dparams, T* scratch, const T* modulation, T* dL_dmodulation) {
  const Modulation<T> modulated{modulation, dL_dmodulation,
                                shape.normalizes ? const_cast<T*>(deviations_of(shape, saved, n)) : nullptr};
  const int stride = stride_of(shape);
  const int64_t n_slots = slots_of(n), n_params = shape.n_params();
  if (dL_dparams) fill_zero(scratch, n_slots * n_params);
  launch("fused_mlp_backward", mlp_backward_kernel<T>, Grid{n_slots, kThreads, Tile<T>::bytes(stride)}, shape, x,
         params, y, saved, dL_dy, n, dL_dx, dL_dparams ? scratch : nullptr, modulated, stride);
  if (dL_dparams) for_each("fused_mlp_sum", n_params, SumSlots<T>{scratch, n_slots, n_params, dL_dparams});
}

#define NF_INSTANTIATE(T)                                                                                              \
  template void fused_mlp_forward(const MlpShape&, const T*, const T*, int64_t, T*, T*, T*, const T*);                 \
  template void fused_mlp_backward(const MlpShape&, const T*, const T*, const T*, const T*, const T*, int64_t, T*, T*, \
                                   T*, const T*, T*);                                                                  \
  template int64_t fused_mlp_shared_bytes<T>(const MlpShape&);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
