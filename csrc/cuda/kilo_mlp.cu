// SPDX-License-Identifier: Apache-2.0
// Samples are sorted by network: counts by atomics, their sums before each network by a scan, places by atomics, so
// that the order within a network is any. A thread block takes a chunk of one network, whose parameters it holds in
// shared memory, where there is room beside its tile (kilo_tile.h); the chunks of all networks are numbered one after
// another, so a network without samples has none. Backward goes through the layers of a tile again; gradients of
// parameters are added up by atomics, tile by tile.
#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/kilo_tile.h"
#include "cuda/scan.h"
#include "ops/kilo_mlp.h"

namespace nf::cuda {
namespace {

constexpr int kThreads = kKiloThreads;
constexpr int64_t kChunk = 1024;  // samples of one network that one thread block takes
template <typename T>
constexpr int kRows = kKiloRows<T>;
template <typename T>
constexpr int kStride = kKiloStride<T>;

// ---- sort ----

struct KiloSort {
  int64_t *starts, *chunks;  // [n_networks + 1]: samples, and chunks, of the networks before
  int64_t* next;             // [n_networks]: where the next sample goes
  int32_t* order;            // [n]

  KiloSort(int64_t* memory, int64_t n_networks)
      : starts(memory),
        chunks(starts + n_networks + 1),
        next(chunks + n_networks + 1),
        order(reinterpret_cast<int32_t*>(next + n_networks)) {}
};

NF_DEVICE int64_t add_one(int64_t* count) {
  return static_cast<int64_t>(atomicAdd(reinterpret_cast<unsigned long long*>(count), 1ull));
}

struct CountSamples {
  const int32_t* network;
  int64_t n_networks;
  int64_t* counts;
  NF_DEVICE void operator()(int64_t i) const {
    if (network[i] >= 0 && network[i] < n_networks) add_one(counts + network[i]);
  }
};

struct CountChunks {
  const int64_t* counts;
  int64_t* chunks;
  NF_DEVICE void operator()(int64_t i) const { chunks[i] = (counts[i] + kChunk - 1) / kChunk; }
};

struct CopyStarts {
  const int64_t* starts;
  int64_t* next;
  NF_DEVICE void operator()(int64_t i) const { next[i] = starts[i]; }
};

struct PlaceSamples {
  const int32_t* network;
  int64_t n_networks;
  int64_t* next;
  int32_t* order;
  NF_DEVICE void operator()(int64_t i) const {
    if (network[i] >= 0 && network[i] < n_networks) order[add_one(next + network[i])] = static_cast<int32_t>(i);
  }
};

// Rows [n, width] of samples without a network become zero, those of networks that do not exist NaN.
template <typename T>
struct ClearUnowned {
  const int32_t* network;
  int64_t n_networks;
  T* rows;
  int width;
  NF_DEVICE void operator()(int64_t i) const {
    if (network[i] >= 0 && network[i] < n_networks) return;
    for (int c = 0; c < width; ++c) rows[i * width + c] = network[i] < 0 ? T(0) : T(NAN);
  }
};

template <typename T>
KiloSort sort_samples(const KiloInputs<T>& in, int64_t* memory) {
  if (in.n > std::numeric_limits<int32_t>::max())
    throw std::invalid_argument("kilo_mlp: more samples than 2^31 - 1 in one call; pass them in parts");
  const KiloSort sort(memory, in.n_networks);
  fill_zero(sort.starts, in.n_networks);
  for_each("kilo_count", in.n, CountSamples{in.network, in.n_networks, sort.starts});
  for_each("kilo_chunks", in.n_networks, CountChunks{sort.starts, sort.chunks});
  scan_sums(sort.starts, in.n_networks, sort.starts + in.n_networks);
  scan_sums(sort.chunks, in.n_networks, sort.chunks + in.n_networks);
  for_each("kilo_starts", in.n_networks, CopyStarts{sort.starts, sort.next});
  for_each("kilo_place", in.n, PlaceSamples{in.network, in.n_networks, sort.next, sort.order});
  return sort;
}

template <typename T>
void clear_unowned(const KiloInputs<T>& in, T* rows, int width) {
  for_each("kilo_clear", in.n, ClearUnowned<T>{in.network, in.n_networks, rows, width});
}

// Chunk c of all: the last network that has no more chunks before it.
struct Chunk {
  int64_t network, begin, end;  // of order
  NF_DEVICE Chunk(const KiloSort& sort, int64_t n_networks, int64_t c) : network(0) {
    for (int64_t beyond = n_networks; beyond - network > 1;) {
      const int64_t middle = (network + beyond) / 2;
      if (sort.chunks[middle] <= c)
        network = middle;
      else
        beyond = middle;
    }
    begin = sort.starts[network] + (c - sort.chunks[network]) * kChunk;
    end = min(begin + kChunk, sort.starts[network + 1]);
  }
};

// ---- one tile ----

// A thread block's shared memory: rows of kStride samples, then the network. f and e_d follow each other, as the rows
// of w3 that read them do.
template <typename T>
struct Tile {
  T *e_x, *h0, *h1, *f, *e_d, *h2;  // h2: later gradients of f and h0
  T *y, *dL_dy;                     // [4]: density and colour
  T *dL_dh, *dL_de;                 // of h2 and h1; of an encoding
  T* network;

  NF_HD Tile(const KiloShape& s, bool backward, T* memory) {
    int64_t n = 0;
    const auto take = [&](int64_t entries) {
      T* rows = memory + n;
      n += entries * kStride<T>;
      return rows;
    };
    e_x = take(s.n_position());
    h0 = take(s.width);
    h1 = take(s.width);
    f = take(s.width);
    e_d = take(s.n_direction());
    h2 = take(s.width);
    y = take(4);
    dL_dy = take(backward ? 4 : 0);
    dL_dh = take(backward ? s.width : 0);
    dL_de = take(backward ? (s.n_position() > s.n_direction() ? s.n_position() : s.n_direction()) : 0);
    network = take(0);
  }
};

// out[k][row] = start(k, row) + sum over o of w[k][o] grad[o][row]; zero where h[k][row], if it is given, is not
// positive.
template <typename T, typename Start>
NF_DEVICE void dense_back(const T* grad, int n_out, const T* w, int width, int n_in, const T* h, const Start& start,
                          T* out) {
  constexpr int kGroups = kRows<T> / 4;
  NF_ROLL for (int block = threadIdx.x; block < kGroups * ((n_in + 3) / 4); block += kThreads) {
    const int row = block % kGroups * 4, k0 = block / kGroups * 4;
    int from[4];
    Four<T> sums[4];
    NF_UNROLL for (int j = 0; j < 4; ++j) {
      const int k = min(k0 + j, n_in - 1);
      from[j] = k * width;
      NF_UNROLL for (int i = 0; i < 4; ++i) sums[j].v[i] = start(k, row + i);
    }
    NF_ROLL for (int o = 0; o < n_out; ++o) {
      const Four<T> a = load_four(grad + o * kStride<T> + row);
      NF_UNROLL for (int j = 0; j < 4; ++j) {
        const T b = w[from[j] + o];
        NF_UNROLL for (int i = 0; i < 4; ++i) sums[j].v[i] = madd(a.v[i], b, sums[j].v[i]);
      }
    }
    NF_UNROLL for (int j = 0; j < 4; ++j) {
      if (k0 + j >= n_in) continue;
      const int at = (k0 + j) * kStride<T> + row;
      NF_UNROLL for (int i = 0; i < 4; ++i) if (h && h[at + i] <= T(0)) sums[j].v[i] = 0;
      *reinterpret_cast<Four<T>*>(out + at) = sums[j];
    }
  }
}

// dL_dw[k][o] += sum over rows of in[k][row] grad[o][row]
template <typename T>
NF_DEVICE void add_outer(const T* in, int n_in, const T* grad, int width, T* dL_dw) {
  const int n_k = (n_in + 3) / 4, n_o = width / 4;
  NF_ROLL for (int block = threadIdx.x; block < n_k * n_o; block += kThreads) {
    const int k0 = block / n_o, o0 = block % n_o;
    T sums[4][4] = {};
    NF_ROLL for (int row = 0; row < kRows<T>; row += 4) {
      Four<T> b[4];
      NF_UNROLL for (int j = 0; j < 4; ++j) b[j] = load_four(grad + (o0 + n_o * j) * kStride<T> + row);
      NF_UNROLL for (int i = 0; i < 4; ++i) {
        const Four<T> a = load_four(in + min(k0 + n_k * i, n_in - 1) * kStride<T> + row);
        NF_UNROLL for (int j = 0; j < 4; ++j) NF_UNROLL for (int r = 0; r < 4; ++r) sums[i][j] =
            madd(a.v[r], b[j].v[r], sums[i][j]);
      }
    }
    NF_UNROLL for (int i = 0; i < 4; ++i) if (k0 + n_k * i < n_in) NF_UNROLL for (int j = 0; j < 4; ++j)
        atomicAdd(dL_dw + (k0 + n_k * i) * width + o0 + n_o * j, sums[i][j]);
  }
}

// sum[o] += sum over rows of grad[o][row], times factor[row] if it is given
template <typename T>
NF_DEVICE void add_rows(const T* grad, int width, const T* factor, T* sum) {
  NF_ROLL for (int o = threadIdx.x; o < width; o += kThreads) {
    T s = 0;
    NF_ROLL for (int row = 0; row < kRows<T>; ++row) s =
        madd(grad[o * kStride<T> + row], factor ? factor[row] : T(1), s);
    atomicAdd(sum + o, s);
  }
}

// Samples order[0 .. rows) through all layers; the rest of the tile are zeros at the origin.
template <typename T>
NF_DEVICE void forward_tile(const KiloInputs<T>& in, const T* net, const int32_t* order, int rows,
                            const Tile<T>& tile) {
  const KiloShape& s = in.shape;
  const int w = s.width;
  const bool has_color = in.directions != nullptr;
  NF_ROLL for (int i = threadIdx.x; i < (has_color ? 2 : 1) * kRows<T>; i += kThreads) {
    const int row = i % kRows<T>;
    const bool is_direction = i >= kRows<T>;
    const T* from = is_direction ? in.directions : in.positions;
    T v[3] = {};
    if (row < rows) NF_UNROLL for (int axis = 0; axis < 3; ++axis) v[axis] = from[3 * int64_t(order[row]) + axis];
    encode_row(v, is_direction ? s.direction_frequencies : s.position_frequencies,
               (is_direction ? tile.e_d : tile.e_x) + row);
  }
  __syncthreads();
  constexpr int kGroups = kRows<T> / 4;
  hidden_rows(s, [=](int) { return net; }, kGroups, tile.e_x, tile.h0, tile.h1);
  __syncthreads();
  NF_ROLL for (int row = threadIdx.x; row < kRows<T>; row += kThreads) tile.y[row] = density_of(s, net, tile.h1, row);
  if (has_color) {
    const auto layer = [&](int32_t bias, int32_t matrix) {
      return [=](int) { return KiloLayer<T>(net + bias, net + matrix); };
    };
    dense<false>(tile.h1, w, kGroups, layer(s.b2(), s.w2()), w, tile.f);
    __syncthreads();
    dense<true>(tile.f, w + s.n_direction(), kGroups, layer(s.b3(), s.w3()), w, tile.h2);
    __syncthreads();
    NF_ROLL for (int i = threadIdx.x; i < 3 * kRows<T>; i += kThreads) {
      const int c = i / kRows<T>, row = i % kRows<T>;
      tile.y[(1 + c) * kStride<T> + row] = color_of(s, net, tile.h2, c, row);
    }
  }
  __syncthreads();
}

// Gradient of positions or directions [n, 3] from those of their entries.
template <typename T>
NF_DEVICE void write_input_gradient(const T* entries, const T* dL_de, int n_frequencies, const int32_t* order, int rows,
                                    T* dL_dx) {
  NF_ROLL for (int i = threadIdx.x; i < 3 * rows; i += kThreads) {
    const int axis = i % 3, row = i / 3;
    const auto of = [=](const T* values) { return [=](int j) { return values[(3 * j + axis) * kStride<T> + row]; }; };
    dL_dx[3 * int64_t(order[row]) + axis] = kilo_encode_gradient<T>(n_frequencies, of(entries), of(dL_de));
  }
}

template <typename T>
struct Gradients {
  const T* dL_dy;
  T *dL_dparams, *dL_dx, *dL_dd;  // null: not wanted
};

// After forward_tile. `grad`: of this network's parameters, or null.
template <typename T>
NF_DEVICE void backward_tile(const KiloInputs<T>& in, const T* net, const int32_t* order, int rows, const Tile<T>& t,
                             const Gradients<T>& out, T* grad) {
  constexpr int kPitch = kStride<T>;
  const KiloShape& s = in.shape;
  const int w = s.width, n_y = in.directions ? 4 : 1;
  const bool has_color = in.directions != nullptr;
  const auto zero = [](int, int) { return T(0); };
  NF_ROLL for (int i = threadIdx.x; i < n_y * kRows<T>; i += kThreads) {
    const int c = i / kRows<T>, row = i % kRows<T>, at = c * kPitch + row;
    T dz = row < rows ? out.dL_dy[int64_t(order[row]) * n_y + c] : T(0);
    if (c > 0) dz *= activation_derivative<Activation::kSigmoid>(t.y[at]);
    t.dL_dy[at] = dz;
  }
  __syncthreads();
  const T* dsigma = t.dL_dy;
  T *dL_dh2 = t.dL_dh, *dL_df = t.h2, *dL_dh1 = t.dL_dh, *dL_dh0 = t.h2;
  if (has_color) {
    const T *rgb = net + s.w_rgb(), *drgb = t.dL_dy + kPitch;
    NF_ROLL for (int i = threadIdx.x; i < w * kRows<T>; i += kThreads) {
      const int o = i / kRows<T>, row = i % kRows<T>;
      T sum = 0;
      NF_UNROLL for (int c = 0; c < 3; ++c) sum = madd(drgb[c * kPitch + row], rgb[c * w + o], sum);
      dL_dh2[o * kPitch + row] = t.h2[o * kPitch + row] <= T(0) ? T(0) : sum;
    }
    if (grad) {
      NF_ROLL for (int c = 0; c < 3; ++c) add_rows(t.h2, w, drgb + c * kPitch, grad + s.w_rgb() + c * w);
      add_rows(drgb, 3, static_cast<const T*>(nullptr), grad + s.b_rgb());
    }
    __syncthreads();
    if (grad) {
      add_outer(t.f, w + s.n_direction(), dL_dh2, w, grad + s.w3());
      add_rows(dL_dh2, w, static_cast<const T*>(nullptr), grad + s.b3());
    }
    if (out.dL_dd)
      dense_back(dL_dh2, w, net + s.w3_direction(), w, s.n_direction(), static_cast<const T*>(nullptr), zero, t.dL_de);
    dense_back(dL_dh2, w, net + s.w3(), w, w, static_cast<const T*>(nullptr), zero, dL_df);
    __syncthreads();
    if (out.dL_dd) write_input_gradient(t.e_d, t.dL_de, s.direction_frequencies, order, rows, out.dL_dd);
    if (grad) {
      add_outer(t.h1, w, dL_df, w, grad + s.w2());
      add_rows(dL_df, w, static_cast<const T*>(nullptr), grad + s.b2());
    }
  }
  const T* w_sigma = net + s.w_sigma();
  dense_back(
      dL_df, has_color ? w : 0, net + s.w2(), w, w, t.h1, [=](int k, int row) { return w_sigma[k] * dsigma[row]; },
      dL_dh1);
  if (grad) {
    add_rows(t.h1, w, dsigma, grad + s.w_sigma());
    add_rows(dsigma, 1, static_cast<const T*>(nullptr), grad + s.b_sigma());
  }
  __syncthreads();
  if (grad) {
    add_outer(t.h0, w, dL_dh1, w, grad + s.w1());
    add_rows(dL_dh1, w, static_cast<const T*>(nullptr), grad + s.b1());
  }
  dense_back(dL_dh1, w, net + s.w1(), w, w, t.h0, zero, dL_dh0);
  __syncthreads();
  if (grad) {
    add_outer(t.e_x, s.n_position(), dL_dh0, w, grad + s.w0());
    add_rows(dL_dh0, w, static_cast<const T*>(nullptr), grad + s.b0());
  }
  if (!out.dL_dx) return;
  dense_back(dL_dh0, w, net + s.w0(), w, s.n_position(), static_cast<const T*>(nullptr), zero, t.dL_de);
  __syncthreads();
  write_input_gradient(t.e_x, t.dL_de, s.position_frequencies, order, rows, out.dL_dx);
}

// ---- kernels ----

// Calls body(network, its parameters, first of order, rows) for the tiles of this thread block's chunks.
template <typename T, typename Body>
NF_DEVICE void for_tiles(const KiloInputs<T>& in, const KiloSort& sort, const Tile<T>& tile, bool network_is_shared,
                         const Body& body) {
  const int n_params = in.shape.n_params();
  NF_ROLL for (int64_t c = blockIdx.x; c < sort.chunks[in.n_networks]; c += gridDim.x) {
    const Chunk chunk(sort, in.n_networks, c);
    const T* net = in.params + chunk.network * n_params;
    if (network_is_shared) {
      __syncthreads();  // the last tile has read its own
      NF_ROLL for (int i = 4 * threadIdx.x; i < n_params; i += 4 * kThreads) *
          reinterpret_cast<Four<T>*>(tile.network + i) = load_four(net + i);
      net = tile.network;
    }
    NF_ROLL for (int64_t first = chunk.begin; first < chunk.end; first += kRows<T>) {
      __syncthreads();  // the last tile has been read, the network is there
      body(chunk.network, net, sort.order + first, static_cast<int>(min(int64_t(kRows<T>), chunk.end - first)));
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    kilo_forward_kernel(const KiloInputs<T> in, const KiloSort sort, bool network_is_shared, T* y) {
  const Tile<T> tile(in.shape, false, dynamic_shared<T>());
  const int n_y = in.directions ? 4 : 1;
  for_tiles(in, sort, tile, network_is_shared, [&](int64_t, const T* net, const int32_t* order, int rows) {
    forward_tile(in, net, order, rows, tile);
    NF_ROLL for (int i = threadIdx.x; i < n_y * rows; i += kThreads) y[int64_t(order[i / n_y]) * n_y + i % n_y] =
        tile.y[i % n_y * kStride<T> + i / n_y];
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    kilo_backward_kernel(const KiloInputs<T> in, const KiloSort sort, bool network_is_shared, const Gradients<T> out) {
  const Tile<T> tile(in.shape, true, dynamic_shared<T>());
  for_tiles(in, sort, tile, network_is_shared, [&](int64_t network, const T* net, const int32_t* order, int rows) {
    forward_tile(in, net, order, rows, tile);
    backward_tile(in, net, order, rows, tile, out,
                  out.dL_dparams ? out.dL_dparams + network * in.shape.n_params() : nullptr);
  });
}

// Shared memory of a thread block, with the network if it fits.
template <typename T>
int shared_bytes(const KiloShape& shape, bool backward, bool* network_is_shared) {
  T* const none = nullptr;
  const int tile = static_cast<int>((Tile<T>(shape, backward, none).network - none) * sizeof(T));
  const int both = tile + shape.n_params() * static_cast<int>(sizeof(T)), most = max_shared_bytes();
  *network_is_shared = both <= most;
  if (tile > most)
    throw std::invalid_argument("kilo_mlp: a network takes " + std::to_string(tile) +
                                " bytes of shared memory, more than " + std::to_string(most) +
                                " of this device: use a smaller width or fewer frequencies");
  return *network_is_shared ? both : tile;
}

// At most so many chunks: one of each network that has samples, and a further one for every full chunk.
int64_t most_chunks(int64_t n, int64_t n_networks) { return n / kChunk + std::min(n, n_networks); }

}  // namespace

int64_t kilo_sort_scratch(int64_t n, int64_t n_networks) { return 3 * n_networks + 2 + (n + 1) / 2; }
int64_t kilo_n_slots(int64_t) { return 0; }

template <typename T>
void kilo_mlp_forward(const KiloInputs<T>& in, T* y, int64_t* sort) {
  bool network_is_shared;
  const int bytes = shared_bytes<T>(in.shape, false, &network_is_shared);
  const KiloSort sorted = sort_samples(in, sort);
  clear_unowned(in, y, in.directions ? 4 : 1);
  launch_persistent("kilo_mlp_forward", kilo_forward_kernel<T>, Grid{most_chunks(in.n, in.n_networks), kThreads, bytes},
                    in, sorted, network_is_shared, y);
}

template <typename T>
void kilo_mlp_backward(const KiloInputs<T>& in, const T* dL_dy, T* dL_dparams, T* dL_dx, T* dL_dd, int64_t* sort, T*) {
  bool network_is_shared;
  const int bytes = shared_bytes<T>(in.shape, true, &network_is_shared);
  const KiloSort sorted = sort_samples(in, sort);
  if (dL_dx) clear_unowned(in, dL_dx, 3);
  if (dL_dd) clear_unowned(in, dL_dd, 3);
  if (dL_dparams) fill_zero(dL_dparams, in.n_networks * in.shape.n_params());
  launch_persistent("kilo_mlp_backward", kilo_backward_kernel<T>,
                    Grid{most_chunks(in.n, in.n_networks), kThreads, bytes}, in, sorted, network_is_shared,
                    Gradients<T>{dL_dy, dL_dparams, dL_dx, dL_dd});
}

#define NF_INSTANTIATE(T)                                             \
  template void kilo_mlp_forward(const KiloInputs<T>&, T*, int64_t*); \
  template void kilo_mlp_backward(const KiloInputs<T>&, const T*, T*, T*, T*, int64_t*, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cuda
