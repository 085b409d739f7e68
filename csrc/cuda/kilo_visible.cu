// SPDX-License-Identifier: Apache-2.0
// The rounds of kilo_render.cu without colours: a thread block takes some hundred rays, a thread a few of them, one
// after another; the block evaluates a sample of each thread at a time. Which of its samples a ray keeps is a row of
// bits, so that no room has to be guessed and no network is evaluated twice: once the places are known, each ray is
// marched again, which costs little, and the samples that have their bit are written.
#include <stdexcept>
#include <string>

#include "cuda/block_counts.h"
#include "cuda/image_ray.h"
#include "cuda/kilo_order.h"
#include "cuda/padding.h"
#include "ops/kilo_visible.h"

namespace nf::cuda {
namespace {

constexpr int kThreads = kKiloThreads;
constexpr int kRows = kKiloRows<float>;
constexpr int kStride = kKiloStride<float>;
constexpr int kBlockRays = 4 * kThreads;

struct Scratch {
  int64_t* block_places;  // of each block of kBlock rays
  uint32_t* bits;         // [n_rays, n_words], of the samples of each ray
  int64_t n_words;

  static int64_t words(int max_samples) { return (int64_t(max_samples) + 31) / 32; }
  Scratch(void* memory, int64_t n_rays, int max_samples)
      : block_places(static_cast<int64_t*>(memory)),
        bits(reinterpret_cast<uint32_t*>(block_places + blocks_for(n_rays))),
        n_words(words(max_samples)) {}
};

struct Arguments {
  KiloField field;
  FusedMarch march;
  FusedRays rays;
  PackedOutput out;
  Scratch scratch;
};

// The samples of a round, one per thread.
struct Samples {
  float local[3][kThreads];
  float thickness[kThreads];  // optical, of a density of one
  float alpha[kThreads];
};

// Dynamic shared memory.
struct Tile {
  float *e_x, *h0, *h1;
  static NF_HD int n_entries(const KiloShape& s) { return s.n_position() + 2 * s.width; }
  NF_DEVICE Tile(const KiloShape& s, float* memory)
      : e_x(memory), h0(e_x + s.n_position() * kStride), h1(h0 + s.width * kStride) {}
};

// Opacity of the samples at places first ... first + n_rows.
NF_DEVICE void evaluate_tile(const KiloField& field, const Order& order, int first, int n_rows, const Tile& tile,
                             Samples& samples) {
  const KiloShape& s = field.shape;
  const int row = threadIdx.x;
  const int sample = row < n_rows ? order.sample[first + row] : -1;
  if (row < n_rows) {
    float v[3] = {};
    if (sample >= 0) NF_UNROLL for (int axis = 0; axis < 3; ++axis) v[axis] = samples.local[axis][sample];
    encode_row(v, s.position_frequencies, tile.e_x + row);
  }
  __syncthreads();
  const auto net = [&](int r) { return field.params + int64_t(order.network[(first + r) / 4]) * s.n_params(); };
  hidden_rows(s, net, n_rows / 4, tile.e_x, tile.h0, tile.h1);
  __syncthreads();
  if (sample >= 0) samples.alpha[sample] = opacity_of(s, net(row), tile.h1, row, samples.thickness[sample]);
  __syncthreads();
}

// Sets the bits of what is kept, and packed_info[ray][1] to its number.
__global__ void __launch_bounds__(kThreads) find_visible(const __grid_constant__ Arguments args) {
  __shared__ Samples samples;
  __shared__ Order order;
  const Tile tile(args.field.shape, dynamic_shared<float>());
  const int thread = threadIdx.x;
  const int64_t end = min((int64_t(blockIdx.x) + 1) * kBlockRays, args.rays.n);
  int64_t next_ray = int64_t(blockIdx.x) * kBlockRays + thread;
  MarchedRay ray;
  float trans = 1;
  int n_kept = 0;
  const auto finish = [&] {
    args.out.packed_info[2 * ray.index + 1] = n_kept;
    ray.index = -1;
  };
  for (;;) {
    int32_t network = -1;
    NF_ROLL while (network < 0 && (ray.index >= 0 || next_ray < end)) {
      if (ray.index < 0) {
        ray.begin(args.march, args.rays, next_ray);
        next_ray += kThreads;
        trans = 1;
        n_kept = 0;
      }
      float t_start, t_end;
      if (!ray.next(args.march, &t_start, &t_end)) {
        finish();
        continue;
      }
      float x[3], local[3];
      NF_UNROLL for (int axis = 0; axis < 3; ++axis) x[axis] =
          madd(t_start, ray.march.direction[axis], ray.march.origin[axis]);
      network = args.field.grid.locate(x, local);
      NF_UNROLL for (int axis = 0; axis < 3; ++axis) samples.local[axis][thread] = local[axis];
      samples.thickness[thread] = args.field.density_scale * (t_end - t_start);
    }
    const int n_places = order_by_network(network >= 0, network, order);
    if (n_places == 0) break;  // no thread has a sample: none has a ray
    __syncthreads();           // the order is whole
    NF_ROLL for (int first = 0; first < n_places; first += kRows)
        evaluate_tile(args.field, order, first, min(kRows, n_places - first), tile, samples);
    if (network < 0 || samples.alpha[thread] <= 0) continue;  // NaN is kept
    const int number = ray.count - 1;
    args.scratch.bits[ray.index * args.scratch.n_words + number / 32] |= 1u << number % 32;
    ++n_kept;
    trans *= 1.0f - samples.alpha[thread];
    if (!(trans >= args.march.stop_trans)) finish();
  }
}

__global__ void __launch_bounds__(kBlock) write_visible(const __grid_constant__ Arguments args) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  const Place place = place_of_ray(args.out, args.rays.n, args.scratch.block_places);
  if (place.count == 0) return;
  const uint32_t* bits = args.scratch.bits + i * args.scratch.n_words;
  MarchedRay ray;
  ray.begin(args.march, args.rays, i);
  float t_start, t_end;
  for (int64_t s = place.start; s < place.start + place.count && ray.next(args.march, &t_start, &t_end);) {
    const int number = ray.count - 1;
    if (!(bits[number / 32] >> number % 32 & 1)) continue;
    args.out.ray_indices[s] = i;
    args.out.t_starts[s] = t_start;
    args.out.t_ends[s] = t_end;
    ++s;
  }
}

}  // namespace

int64_t kilo_visible_scratch_bytes(int64_t n_rays, int max_samples) {
  return 8 * blocks_for(n_rays) + 4 * n_rays * Scratch::words(max_samples);
}

void kilo_visible(const KiloField& field, const FusedMarch& march, const FusedRays& rays, const PackedOutput& out,
                  bool is_padded, void* memory) {
  const int shared = Tile::n_entries(field.shape) * kStride * static_cast<int>(sizeof(float));
  const int most = max_shared_bytes() - static_cast<int>(sizeof(Samples) + sizeof(Order));
  if (shared > most)
    throw std::invalid_argument("kilo_visible: a network takes " + std::to_string(shared) +
                                " bytes of shared memory, more than " + std::to_string(most) +
                                " of this device: use a smaller width or fewer frequencies");
  const Arguments args{field, march, rays, out, Scratch(memory, rays.n, march.max_samples)};
  fill_zero(args.scratch.bits, rays.n * args.scratch.n_words);
  launch("kilo_visible: find", find_visible, Grid{blocks_for(rays.n, kBlockRays), kThreads, shared}, args);
  sum_blocks(rays.n, out.packed_info, args.scratch.block_places);
  assign_blocks(rays.n, out, args.scratch.block_places);
  launch("kilo_visible: write", write_visible, Grid{blocks_for(rays.n)}, args);
  if (is_padded) clear_behind(out);
}

}  // namespace nf::cuda
