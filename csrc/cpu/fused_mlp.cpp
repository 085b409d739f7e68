// SPDX-License-Identifier: Apache-2.0
#include "ops/fused_mlp.h"

#include <algorithm>

#include "core/parallel.h"
#include "cpu/activation.h"
#include "cpu/mlp_tile.h"
#include "cpu/modulated_rows.h"
#include "cpu/tile_memory.h"

namespace nf::cpu {
namespace {

constexpr int64_t kTileRows = 96;     // a multiple of every row count of the micro-tiles; two 64-wide tiles fill 48 KB
constexpr int64_t kAliasBytes = 512;  // rows a multiple of this apart share cache sets
constexpr int64_t kApart = kColumnMultiple;
constexpr int64_t kMaxSlots = 64, kMinSlots = 8;
constexpr int64_t kSlotValues = 1 << 23;  // of all slots together, where that leaves kMinSlots
constexpr int64_t kNarrowOutputs = 4;     // up to here gemm_dot beats a padded layer

template <typename T, typename Epilogue>
void gemm_rows_prefetching(NextTile* next, const T* a, int64_t lda, const T* b, int64_t n_sum, int64_t n_columns,
                           const T* bias, T* c, int64_t rows, const Epilogue& epilogue) {
  gemm_rows(a, lda, b, n_sum, n_columns, {bias}, c, n_columns, rows, PrefetchingEpilogue<T, Epilogue>{epilogue, next});
}

// Keeps what is stored also in `saved` [rows, ld].
template <typename T, typename Inner>
struct SavingEpilogue {
  Inner inner;
  T* saved;
  int64_t ld;
  NF_HD Vector<T> operator()(Vector<T> v, int64_t row, int64_t column) const {
    v = inner(v, row, column);
    stream(saved + row * ld + column, v);
    return v;
  }
  NF_HD void after(int n) const { inner.after(n); }
};

// One thread's buffers for a tile. They outlive the call, so that no page of them is faulted in twice.
template <typename T>
struct TileBuffers {
  T* input;  // x with padded columns
  T* a;      // hidden activations or their gradients, in turns
  T* b;
  T* output;  // the padded output or the gradient before the output activation
  T* stored;  // activation outputs recomputed from stored inputs
  T* pre;     // modulated values, before the activation
  T* apart;   // a copy of layer inputs with kApart values between rows

  explicit TileBuffers(const MlpShape& shape) {
    const int64_t widest = std::max({shape.n_neurons, shape.padded_inputs(), shape.padded_outputs()});
    const int64_t one = kTileRows * widest;
    thread_local ThreadMemory memory;
    T* data = memory.at_least<T>(7 * one + kTileRows * kApart);
    input = data;
    a = data + one;
    b = data + 2 * one;
    output = data + 3 * one;
    stored = data + 4 * one;
    pre = data + 5 * one;
    apart = data + 6 * one;
  }
};

// One sample tile of the arrays that modulation adds: gamma and beta, and their gradients if they are wanted.
template <typename T>
struct TileModulation {
  const T* values = nullptr;
  T* gradients = nullptr;
};

template <typename T>
class Mlp {
 public:
  Mlp(const MlpShape& shape, const T* params) : shape_(shape), params_(params) {}

  int64_t n_layers() const { return shape_.n_hidden_layers + 1; }
  bool is_narrow(const MlpLayer& layer) const {
    return shape_.n_output_dims <= kNarrowOutputs && layer.n_in % kColumnMultiple == 0;
  }

  // Input-major copies of all matrices, at the offsets of the originals.
  void pack(T* packed) {
    for (int64_t l = 0; l < n_layers(); ++l) {
      const MlpLayer layer = shape_.layer(l);
      pack_input_major(params_ + layer.weights, layer.n_out, layer.n_in, packed + layer.weights);
    }
    packed_ = packed;
  }

  // x of a tile with padded columns; x itself where there are none.
  const T* input_tile(const T* x, int64_t rows, T* buffer) const {
    const int64_t n_in = shape_.n_input_dims, padded = shape_.padded_inputs();
    if (n_in == padded) return x;
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(x + i * n_in, n_in, buffer + i * padded);
      std::fill_n(buffer + i * padded + n_in, padded - n_in, static_cast<T>(shape_.input_padding));
    }
    return buffer;
  }

  // saved: this tile's part, or null.
  void forward_tile(const T* x, const T* modulation, int64_t rows, T* y, T* saved, const TileBuffers<T>& tile,
                    NextTile next) const {
    const T* h = input_tile(x, rows, tile.input);
    const int64_t width = shape_.n_neurons;
    for (int64_t l = 0; l < shape_.n_hidden_layers; ++l) {
      T* out = l % 2 ? tile.b : tile.a;
      T* layer_saved = saved ? saved + l * rows * width : nullptr;
      if (modulation)
        modulated_layer(l, h, modulation, rows, out, layer_saved, saved ? deviations(saved, l, rows) : nullptr, &next);
      else
        hidden_layer(l, h, rows, out, layer_saved, &next);
      h = out;
    }
    output_layer(h, rows, y, saved ? saved + shape_.n_hidden_layers * rows * width : nullptr, tile);
  }

  void backward_tile(const T* x, const TileModulation<T>& modulation, const T* y, const T* saved, const T* dL_dy,
                     int64_t rows, T* dL_dx, T* dL_dparams, const TileBuffers<T>& tile, NextTile next_tile) const {
    const int64_t width = shape_.n_neurons, n_hidden = shape_.n_hidden_layers;
    const T* input = input_tile(x, rows, tile.input);
    const T* grad = output_gradient(y, saved + n_hidden * rows * width, dL_dy, rows, tile);
    if (modulation.gradients) std::fill_n(modulation.gradients, rows * shape_.n_modulation, T(0));
    int64_t ld_grad = shape_.n_output_dims;
    for (int64_t l = n_hidden; l >= 0; --l) {
      const T* stored = l > 0 ? saved + (l - 1) * rows * width : nullptr;
      const T* h = input;
      if (l > 0 && modulation.values)
        h = modulated_output(l - 1, stored, modulation.values, rows, tile);
      else if (l > 0 && dL_dparams)
        h = hidden_output(l - 1, stored, rows, tile);
      if (dL_dparams) weight_gradient(l, grad, ld_grad, h, rows, dL_dparams, tile);
      if (l == 0 && !dL_dx) return;
      T* next = grad == tile.a ? tile.b : tile.a;
      if (l > 0 && modulation.values) {
        gradient_product(l, grad, ld_grad, rows, next, NoEpilogue{}, &next_tile);
        modulated_gradient(l - 1, stored, deviations(saved, l - 1, rows), h, modulation, rows, next, tile);
        grad = next;
      } else {
        grad = input_gradient(l, grad, ld_grad, rows, stored, next, dL_dx, &next_tile);
      }
      ld_grad = width;
    }
  }

 private:
  const T* bias(const MlpLayer& layer) const { return layer.bias < 0 ? nullptr : params_ + layer.bias; }

  void hidden_layer(int64_t l, const T* h, int64_t rows, T* out, T* saved, NextTile* next) const {
    const MlpLayer layer = shape_.layer(l);
    const auto product = [&](const auto& epilogue) {
      gemm_rows_prefetching(next, h, layer.n_in, packed_ + layer.weights, layer.n_in, layer.n_out, bias(layer), out,
                            rows, epilogue);
    };
    const auto product_saving = [&](auto inner, bool save) {
      if (save)
        product(SavingEpilogue<T, decltype(inner)>{inner, saved, layer.n_out});
      else
        product(inner);
    };
    if (shape_.activation == Activation::kReLU) return product_saving(ReluEpilogue{}, saved);
    product_saving(NoEpilogue{}, saved && stores_input(shape_.activation));
    apply_activation(shape_.activation, out, out, rows * layer.n_out, shape_.arguments_of(l));
    if (saved && !stores_input(shape_.activation)) stream_copy(out, rows * layer.n_out, saved);
  }

  void output_layer(const T* h, int64_t rows, T* y, T* stored, const TileBuffers<T>& tile) const {
    const MlpLayer layer = shape_.layer(shape_.n_hidden_layers);
    const int64_t n_out = shape_.n_output_dims;
    if (is_narrow(layer)) {
      gemm_dot(h, layer.n_in, params_ + layer.weights, layer.n_in, layer.n_in, static_cast<int>(n_out), bias(layer), y,
               n_out, rows);
    } else {
      T* out = n_out == layer.n_out ? y : tile.output;
      gemm_rows(h, layer.n_in, packed_ + layer.weights, layer.n_in, layer.n_out, {bias(layer)}, out, layer.n_out, rows);
      if (out != y)
        for (int64_t i = 0; i < rows; ++i) std::copy_n(out + i * layer.n_out, n_out, y + i * n_out);
    }
    if (stored && stores_input(shape_.output_activation)) std::copy_n(y, rows * n_out, stored);
    apply_activation(shape_.output_activation, y, y, rows * n_out);
  }

  // dL/dz of the output, [rows, n_output_dims].
  const T* output_gradient(const T* y, const T* stored, const T* dL_dy, int64_t rows,
                           const TileBuffers<T>& tile) const {
    const Activation kind = shape_.output_activation;
    if (kind == Activation::kNone) return dL_dy;
    apply_activation_gradient(kind, stores_input(kind) ? stored : y, dL_dy, tile.output, rows * shape_.n_output_dims);
    return tile.output;
  }

  const T* hidden_output(int64_t l, const T* stored, int64_t rows, const TileBuffers<T>& tile) const {
    if (!stores_input(shape_.activation)) return stored;
    apply_activation(shape_.activation, stored, tile.stored, rows * shape_.n_neurons, shape_.arguments_of(l));
    return tile.stored;
  }

  // The sum over rows reads a column panel of all rows of h again for every few outputs: it has to stay in the first
  // cache, where rows of 128 or 256 floats displace each other (205 of 260 GFLOP/s with 256, 245 apart; Zen 5).
  void weight_gradient(int64_t l, const T* grad, int64_t ld_grad, const T* h, int64_t rows, T* dL_dparams,
                       const TileBuffers<T>& tile) const {
    const MlpLayer layer = shape_.layer(l);
    int64_t ld = layer.n_in;
    if (ld * static_cast<int64_t>(sizeof(T)) % kAliasBytes == 0) {
      ld += kApart;
      for (int64_t i = 0; i < rows; ++i) std::copy_n(h + i * layer.n_in, layer.n_in, tile.apart + i * ld);
      h = tile.apart;
    }
    gemm_outer(grad, ld_grad, h, ld, ld_grad, layer.n_in, rows, dL_dparams + layer.weights);
    if (layer.bias < 0) return;
    T* sum = dL_dparams + layer.bias;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t o = 0; o < ld_grad; ++o) sum[o] += grad[i * ld_grad + o];
  }

  // Where forward keeps 1 / deviation of the rows of layer l of this tile.
  template <typename P>
  P* deviations(P* saved, int64_t l, int64_t rows) const {
    if (!shape_.normalizes) return nullptr;
    return saved + (shape_.saved_per_sample() - shape_.n_hidden_layers + l) * rows;
  }
  template <typename P>
  RowModulation<P> modulation_of(P* tile, int64_t l) const {
    return {tile ? tile + (shape_.n_modulation > 2 ? 2 * l : 0) : nullptr, shape_.n_modulation};
  }

  void modulated_layer(int64_t l, const T* h, const T* modulation, int64_t rows, T* out, T* saved, T* inverse,
                       NextTile* next) const {
    const MlpLayer layer = shape_.layer(l);
    gemm_rows_prefetching(next, h, layer.n_in, packed_ + layer.weights, layer.n_in, layer.n_out, bias(layer), out, rows,
                          NoEpilogue{});
    modulate_rows(out, rows, layer.n_out, modulation_of(modulation, l), shape_.normalizes, saved, inverse);
    apply_activation(shape_.activation, out, out, rows * layer.n_out, shape_.arguments_of(l));
  }

  // h of layer l in tile.stored, what its activation was applied to in tile.pre.
  const T* modulated_output(int64_t l, const T* zhat, const T* modulation, int64_t rows,
                            const TileBuffers<T>& tile) const {
    modulate_stored_rows(zhat, rows, shape_.n_neurons, modulation_of(modulation, l), tile.pre);
    apply_activation(shape_.activation, tile.pre, tile.stored, rows * shape_.n_neurons, shape_.arguments_of(l));
    return tile.stored;
  }

  // `grad` [rows, n_neurons] from dL/dh to dL/dz of layer l, after modulated_output.
  void modulated_gradient(int64_t l, const T* zhat, const T* inverse, const T* h, const TileModulation<T>& modulation,
                          int64_t rows, T* grad, const TileBuffers<T>& tile) const {
    const Activation kind = shape_.activation;
    apply_activation_gradient(kind, stores_input(kind) ? tile.pre : h, grad, grad, rows * shape_.n_neurons,
                              shape_.arguments_of(l));
    modulation_gradient_rows(grad, rows, shape_.n_neurons, modulation_of(modulation.values, l), zhat, inverse,
                             modulation_of(modulation.gradients, l));
  }

  // out [rows, n_in] = grad W_l, through an epilogue.
  template <typename Epilogue>
  void gradient_product(int64_t l, const T* grad, int64_t ld_grad, int64_t rows, T* out, const Epilogue& epilogue,
                        NextTile* next_tile) const {
    const MlpLayer layer = shape_.layer(l);
    gemm_rows_prefetching(next_tile, grad, ld_grad, params_ + layer.weights, ld_grad, layer.n_in,
                          static_cast<const T*>(nullptr), out, rows, epilogue);
  }

  // dL/dz of layer l - 1 in `next`; for the first layer dL_dx.
  const T* input_gradient(int64_t l, const T* grad, int64_t ld_grad, int64_t rows, const T* stored, T* next, T* dL_dx,
                          NextTile* next_tile) const {
    const MlpLayer layer = shape_.layer(l);
    const auto product = [&](T* out, auto inner) { gradient_product(l, grad, ld_grad, rows, out, inner, next_tile); };
    if (l == 0) {
      const int64_t n_in = shape_.n_input_dims;
      product(next, NoEpilogue{});
      if (n_in == layer.n_in) {
        stream_copy(next, rows * n_in, dL_dx);
      } else {
        for (int64_t i = 0; i < rows; ++i) std::copy_n(next + i * layer.n_in, n_in, dL_dx + i * n_in);
      }
    } else if (shape_.activation == Activation::kReLU) {
      product(next, ReluGradientEpilogue<T>{stored, layer.n_in});
    } else {
      product(next, NoEpilogue{});
      apply_activation_gradient(shape_.activation, stored, next, next, rows * layer.n_in, shape_.arguments_of(l - 1));
    }
    return next;
  }

  const MlpShape& shape_;
  const T* params_;
  const T* packed_ = nullptr;
};

int64_t n_tiles_of(int64_t n) { return (n + kTileRows - 1) / kTileRows; }
int64_t n_slots_of(int64_t n, int64_t n_params) {
  return std::min(n_tiles_of(n), std::clamp(kSlotValues / n_params, kMinSlots, kMaxSlots));
}

// Calls body(first sample, samples) for the tiles [begin, end).
template <typename Body>
void for_tiles(int64_t begin, int64_t end, int64_t n, const Body& body) {
  for (int64_t tile = begin; tile < end; ++tile) body(tile * kTileRows, std::min(kTileRows, n - tile * kTileRows));
}

template <typename T>
void sum_slots(const T* slots, int64_t n_slots, int64_t n_params, T* sum) {
  parallel_ranges(n_params, 4096, [&](int64_t begin, int64_t end) {
    std::copy(slots + begin, slots + end, sum + begin);
    for (int64_t s = 1; s < n_slots; ++s)
      for (int64_t i = begin; i < end; ++i) sum[i] += slots[s * n_params + i];
  });
}

}  // namespace

int64_t fused_mlp_forward_scratch(const MlpShape& shape) { return shape.n_params(); }
int64_t fused_mlp_backward_scratch(const MlpShape& shape, int64_t n) {
  return n_slots_of(n, shape.n_params()) * shape.n_params();
}

template <typename T>
void fused_mlp_forward(const MlpShape& shape, const T* x, const T* params, int64_t n, T* y, T* saved, T* scratch,
                       const T* modulation) {
  Mlp<T> mlp(shape, params);
  mlp.pack(scratch);
  constexpr int64_t tiles_per_task = 8;
  parallel_ranges(n_tiles_of(n), tiles_per_task, [&](int64_t begin, int64_t end) {
    const TileBuffers<T> tile(shape);
    for_tiles(begin, end, n, [&](int64_t i, int64_t rows) {
      NextTile next(shape.n_hidden_layers * rows);
      const int64_t following = std::min(kTileRows, n - i - rows);
      next.add(x + (i + rows) * shape.n_input_dims, following, shape.n_input_dims);
      mlp.forward_tile(x + i * shape.n_input_dims, modulation ? modulation + i * shape.n_modulation : nullptr, rows,
                       y + i * shape.n_output_dims, saved ? saved + i * shape.saved_per_sample() : nullptr, tile, next);
    });
    finish_streams();
  });
}

template <typename T>
void fused_mlp_backward(const MlpShape& shape, const T* x, const T* params, const T* y, const T* saved, const T* dL_dy,
                        int64_t n, T* dL_dx, T* dL_dparams, T* scratch, const T* modulation, T* dL_dmodulation) {
  const Mlp<T> mlp(shape, params);
  const int64_t n_params = shape.n_params(), n_tiles = n_tiles_of(n), n_slots = n_slots_of(n, n_params);
  parallel_tasks(n_slots, [&](int64_t slot, int) {
    T* slot_gradient = dL_dparams ? scratch + slot * n_params : nullptr;
    if (slot_gradient) std::fill_n(slot_gradient, n_params, T(0));
    const TileBuffers<T> tile(shape);
    for_tiles(slot * n_tiles / n_slots, (slot + 1) * n_tiles / n_slots, n, [&](int64_t i, int64_t rows) {
      NextTile next((shape.n_hidden_layers + (dL_dx ? 1 : 0)) * rows);
      const int64_t following = std::min(kTileRows, n - i - rows), j = i + rows;
      next.add(dL_dy + j * shape.n_output_dims, following, shape.n_output_dims);
      next.add(saved + j * shape.saved_per_sample(), following, shape.saved_per_sample());
      next.add(x + j * shape.n_input_dims, following, shape.n_input_dims);
      const TileModulation<T> tile_modulation{modulation ? modulation + i * shape.n_modulation : nullptr,
                                              dL_dmodulation ? dL_dmodulation + i * shape.n_modulation : nullptr};
      mlp.backward_tile(x + i * shape.n_input_dims, tile_modulation, y + i * shape.n_output_dims,
                        saved + i * shape.saved_per_sample(), dL_dy + i * shape.n_output_dims, rows,
                        dL_dx ? dL_dx + i * shape.n_input_dims : nullptr, slot_gradient, tile, next);
    });
    finish_streams();
  });
  if (!dL_dparams) return;
  if (n == 0)
    std::fill_n(dL_dparams, n_params, T(0));
  else
    sum_slots(scratch, n_slots, n_params, dL_dparams);
}

#define NF_INSTANTIATE(T)                                                                                              \
  template void fused_mlp_forward(const MlpShape&, const T*, const T*, int64_t, T*, T*, T*, const T*);                 \
  template void fused_mlp_backward(const MlpShape&, const T*, const T*, const T*, const T*, const T*, int64_t, T*, T*, \
                                   T*, const T*, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
