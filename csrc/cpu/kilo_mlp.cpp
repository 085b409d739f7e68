// SPDX-License-Identifier: Apache-2.0
#include "ops/kilo_mlp.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/kilo_sort.h"
#include "cpu/kilo_tile.h"

namespace nf::cpu {
namespace {

constexpr int64_t kKiloChunk = 4096;  // samples of one network that one task takes

// Samples network by network, and the chunks of these. A tile may look at kKiloRows beyond the last one.
struct Sorted {
  int32_t* order;
  std::vector<KiloChunk> chunks;
};
template <typename T>
Sorted sort_samples(const KiloInputs<T>& in, int64_t chunk) {
  thread_local ThreadMemory memory;  // of the calling thread: the pool's threads only read it
  int32_t* order = memory.at_least<int32_t>(in.n + kKiloRows);
  std::vector<KiloChunk> chunks = kilo_sort(in.network, in.n, in.n_networks, chunk, order);
  std::fill_n(order + (chunks.empty() ? 0 : chunks.back().end), kKiloRows, 0);
  return {order, std::move(chunks)};
}

template <typename T>
void forward_tile(const KiloInputs<T>& in, const T* net, const int32_t* order, int64_t rows, const KiloTile<T>& tile,
                  NextTile& next) {
  kilo_gather<true>(in.positions, order, rows, tile.x);
  kilo_encode_tile(tile.x, rows, in.shape.position_frequencies, tile.e_x);
  kilo_density_tile(in.shape, net, rows, tile, next);
  if (!in.directions) return;
  kilo_gather<true>(in.directions, order, rows, tile.d);
  kilo_encode_tile(tile.d, rows, in.shape.direction_frequencies, tile.e_d);
  kilo_color_tile(in.shape, net, rows, tile, next);
}

// Samples without a network, whose row is zero.
template <typename T>
void clear_unowned(const int32_t* network, int64_t n, int64_t width, T* rows) {
  parallel_for(n, [=](int64_t i) {
    if (network[i] < 0) std::fill_n(rows + i * width, width, T(0));
  });
}

template <typename T>
const T* network_of(const KiloInputs<T>& in, const KiloChunk& chunk) {
  return in.params + chunk.network * int64_t(in.shape.n_params());
}

// Calls body(index of a chunk, prefetch for its tiles) for all chunks, in tasks of some consecutive ones: while one
// network is used, the next one of the task is fetched.
template <typename T, typename Body>
void for_chunks(const KiloInputs<T>& in, const std::vector<KiloChunk>& chunks, const Body& body) {
  const int64_t n_chunks = chunks.size(), per_task = std::clamp<int64_t>(n_chunks / (8 * num_threads()), 1, 16);
  parallel_ranges(n_chunks, per_task, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const T* next_net = c + 1 < end ? network_of(in, chunks[c + 1]) : nullptr;
      NextTile next = kilo_next(in.shape, chunks[c].end - chunks[c].begin, in.directions != nullptr, next_net);
      body(c, next);
    }
  });
}

// Calls body(first of order, rows) for the tiles of a chunk.
template <typename Body>
void for_tiles(const KiloChunk& chunk, const Body& body) {
  for (int64_t i = chunk.begin; i < chunk.end; i += kKiloRows) body(i, std::min(kKiloRows, chunk.end - i));
}

}  // namespace

int64_t kilo_sort_scratch(int64_t, int64_t) { return 0; }  // its own
int64_t kilo_n_slots(int64_t n) { return n / kKiloChunk; }

template <typename T>
void kilo_mlp_forward(const KiloInputs<T>& in, T* y, int64_t*) {
  constexpr int64_t chunk_rows = 16 * kKiloRows;
  const int64_t n_out = in.directions ? 4 : 1;
  const Sorted sorted = sort_samples(in, chunk_rows);
  const int32_t* order = sorted.order;
  const std::vector<KiloChunk>& chunks = sorted.chunks;
  clear_unowned(in.network, in.n, n_out, y);
  for_chunks(in, chunks, [&](int64_t c, NextTile& next) {
    const KiloTile<T> tile(in.shape, false);
    const T* net = network_of(in, chunks[c]);
    if (in.directions) kilo_merge(in.shape, net, tile.own_m, tile.own_m_bias);
    for_tiles(chunks[c], [&](int64_t first, int64_t rows) {
      forward_tile(in, net, order + first, rows, tile, next);
      for (int64_t i = 0; i < rows; ++i) {
        __builtin_prefetch(y + order[first + i + kKiloRows] * n_out, 1);
        T* out = y + order[first + i] * n_out;
        out[0] = tile.sigma[i];
        if (n_out == 4)
          for (int channel = 0; channel < 3; ++channel) out[1 + channel] = tile.rgb[3 * i + channel];
      }
    });
  });
}

template <typename T>
void kilo_mlp_backward(const KiloInputs<T>& in, const T* dL_dy, T* dL_dparams, T* dL_dx, T* dL_dd, int64_t*, T* slots) {
  const int64_t n_params = in.shape.n_params(), n_out = in.directions ? 4 : 1;
  const Sorted sorted = sort_samples(in, kKiloChunk);
  const int32_t* order = sorted.order;
  const std::vector<KiloChunk>& chunks = sorted.chunks;
  if (dL_dx) clear_unowned(in.network, in.n, 3, dL_dx);
  if (dL_dd) clear_unowned(in.network, in.n, 3, dL_dd);
  // The first chunk of a network adds to its gradient, every further one to a slot.
  std::vector<T*> grads(chunks.size(), nullptr);
  if (dL_dparams) {
    parallel_for(in.n_networks, [&](int64_t i) { std::fill_n(dL_dparams + i * n_params, n_params, T(0)); }, 16);
    for (size_t c = 0; c < chunks.size(); ++c) {
      if (chunks[c].number == 0) {
        grads[c] = dL_dparams + chunks[c].network * n_params;
        continue;
      }
      grads[c] = slots;
      slots += n_params;
    }
  }
  const bool needs_inputs = dL_dx || dL_dd, has_color = in.directions != nullptr;
  for_chunks(in, chunks, [&](int64_t c, NextTile& next) {
    const KiloTile<T> tile(in.shape, true);
    const T* net = network_of(in, chunks[c]);
    if (grads[c] && chunks[c].number > 0) std::fill_n(grads[c], n_params, T(0));
    if (has_color) kilo_merge(in.shape, net, tile.own_m, tile.own_m_bias);
    kilo_begin_backward(in.shape, net, has_color, needs_inputs, tile);
    for_tiles(chunks[c], [&](int64_t first, int64_t rows) {
      forward_tile(in, net, order + first, rows, tile, next);
      for (int64_t i = 0; i < rows; ++i) std::copy_n(dL_dy + order[first + i] * n_out, n_out, tile.dz + 4 * i);
      const auto writer = [&](T* out) {
        return [=](int64_t i, int axis, T value) {
          if (out) out[3 * int64_t(order[first + i]) + axis] = value;
        };
      };
      kilo_backward_tile(in.shape, net, rows, has_color, needs_inputs, tile, grads[c], writer(dL_dx), writer(dL_dd));
    });
    if (has_color && grads[c]) kilo_end_backward(in.shape, net, tile, grads[c]);
  });
  if (!dL_dparams) return;
  for (size_t c = 0; c < chunks.size(); ++c)
    if (chunks[c].number > 0) {
      T* sum = dL_dparams + chunks[c].network * n_params;
      for (int64_t i = 0; i < n_params; ++i) sum[i] += grads[c][i];
    }
}

#define NF_INSTANTIATE(T)                                             \
  template void kilo_mlp_forward(const KiloInputs<T>&, T*, int64_t*); \
  template void kilo_mlp_backward(const KiloInputs<T>&, const T*, T*, T*, T*, int64_t*, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
