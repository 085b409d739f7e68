// SPDX-License-Identifier: Apache-2.0
// A thread block takes some hundred neighbouring rays, a thread a few of them, one after another. In a round each
// thread marches to the next sample of its ray that has a network; the block puts these samples in an order by network,
// in groups of four, and takes tiles of them through the layers (kilo_tile.h). Networks are read where they lie, since
// neighbouring samples meet few of them; then each thread composites its own sample. Which rays a thread takes does not
// depend on timing, nor does what they see.
#include <stdexcept>
#include <string>

#include "cuda/image_ray.h"
#include "cuda/kilo_order.h"
#include "ops/kilo_render.h"

namespace nf::cuda {
namespace {

constexpr int kThreads = kKiloThreads;
constexpr int kRows = kKiloRows<float>;
constexpr int kStride = kKiloStride<float>;
constexpr int kBlockRays = 4 * kThreads;
static_assert(kThreads == 2 * kRows);  // encoding a tile

// M and m of every network, in that order.
struct Merge {
  KiloShape shape;
  const float* params;
  float* merged;
  NF_DEVICE void operator()(int64_t i) const {
    const int w = shape.width, per_network = w * w + w;
    const float* net = params + i / per_network * shape.n_params();
    const int at = static_cast<int>(i % per_network), k = at / w, o = at % w;
    const float* left = net + (k < w ? shape.w2() + k * w : shape.b2());
    float sum = k < w ? 0.0f : net[shape.b3() + o];
    NF_ROLL for (int j = 0; j < w; ++j) sum = madd(left[j], net[shape.w3() + j * w + o], sum);
    merged[i] = sum;
  }
};

struct Arguments {
  KiloField field;
  FusedMarch march;
  FusedRays rays;
  float skip_weight;
  FusedImage image;
  const float* merged;
};

// The samples of a round, one per thread.
struct Samples {
  float local[3][kThreads], direction[3][kThreads];
  float thickness[kThreads];  // optical, of a density of one
  float trans[kThreads];      // in front of it
  float skipped[kThreads];    // of its ray: weight of the colours left out so far
  float alpha[kThreads], rgb[3][kThreads];
};

// Dynamic shared memory. h1 and e_d follow each other, as the rows of both matrices of the next layer do; h2 takes the
// place of h0.
struct Tile {
  float *e_x, *h0, *h1, *e_d;
  static NF_HD int n_entries(const KiloShape& s) { return s.n_position() + 2 * s.width + s.n_direction(); }
  NF_DEVICE Tile(const KiloShape& s, float* memory)
      : e_x(memory), h0(e_x + s.n_position() * kStride), h1(h0 + s.width * kStride), e_d(h1 + s.width * kStride) {}
};

// Opacity and colour of the samples at places first ... first + n_rows.
NF_DEVICE void evaluate_tile(const Arguments& args, const Order& order, int first, int n_rows, const Tile& tile,
                             Samples& samples) {
  const KiloShape& s = args.field.shape;
  const int w = s.width, row = threadIdx.x % kRows;
  const int sample = row < n_rows ? order.sample[first + row] : -1;
  const bool is_direction = threadIdx.x >= kRows;
  if (row < n_rows) {
    const auto& of = is_direction ? samples.direction : samples.local;
    float v[3] = {};
    if (sample >= 0) NF_UNROLL for (int axis = 0; axis < 3; ++axis) v[axis] = of[axis][sample];
    encode_row(v, is_direction ? s.direction_frequencies : s.position_frequencies,
               (is_direction ? tile.e_d : tile.e_x) + row);
  }
  __syncthreads();
  const auto network = [&](int r) { return int64_t(order.network[(first + r) / 4]); };
  const auto net = [&](int r) { return args.field.params + network(r) * s.n_params(); };
  hidden_rows(s, net, n_rows / 4, tile.e_x, tile.h0, tile.h1);
  __syncthreads();
  bool needs_color = false;
  float most = 0;
  if (!is_direction && sample >= 0) {
    const float alpha = opacity_of(s, net(row), tile.h1, row, samples.thickness[sample]);
    most = samples.trans[sample] * alpha;
    needs_color = !(most <= args.skip_weight && samples.skipped[sample] + most <= kKiloSkipTotal);
    samples.alpha[sample] = alpha;
  }
  if (__syncthreads_count(needs_color) > 0) {
    const auto layer = [&](int r) {
      const float* merged = args.merged + network(r) * (w * w + w);
      return KiloLayer<float>(merged + w * w, merged, w, net(r) + s.w3_direction());
    };
    dense<true>(tile.h1, w + s.n_direction(), n_rows / 4, layer, w, tile.h0);
    __syncthreads();
    NF_ROLL for (int i = threadIdx.x; i < 3 * kRows; i += kThreads) {
      const int c = i / kRows, r = i % kRows;
      if (r >= n_rows || order.sample[first + r] < 0) continue;
      samples.rgb[c][order.sample[first + r]] = color_of(s, net(r), tile.h0, c, r);
    }
  } else if (!is_direction && sample >= 0) {
    samples.skipped[sample] += most;
    NF_UNROLL for (int c = 0; c < 3; ++c) samples.rgb[c][sample] = 0;
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) kilo_render_kernel(const __grid_constant__ Arguments args) {
  __shared__ Samples samples;
  __shared__ Order order;
  const Tile tile(args.field.shape, dynamic_shared<float>());
  const int thread = threadIdx.x;
  const int64_t end = min((int64_t(blockIdx.x) + 1) * kBlockRays, args.rays.n);
  int64_t next_ray = int64_t(blockIdx.x) * kBlockRays + thread;
  ImageRay ray;
  for (;;) {
    float t_start = 0;
    int32_t network = -1;
    NF_ROLL while (network < 0 && (ray.index >= 0 || next_ray < end)) {
      if (ray.index < 0) {
        ray.begin(args.march, args.rays, next_ray);
        next_ray += kThreads;
        samples.skipped[thread] = 0;
        NF_UNROLL for (int axis = 0; axis < 3; ++axis) samples.direction[axis][thread] = ray.march.direction[axis];
      }
      float t_end;
      if (!ray.next(args.march, &t_start, &t_end)) {
        ray.finish(args.image);
        continue;
      }
      float x[3], local[3];
      NF_UNROLL for (int axis = 0; axis < 3; ++axis) x[axis] =
          madd(t_start, ray.march.direction[axis], ray.march.origin[axis]);
      network = args.field.grid.locate(x, local);
      NF_UNROLL for (int axis = 0; axis < 3; ++axis) samples.local[axis][thread] = local[axis];
      samples.thickness[thread] = args.field.density_scale * (t_end - t_start);
    }
    samples.trans[thread] = ray.sum.trans;
    const int n_places = order_by_network(network >= 0, network, order);
    if (n_places == 0) break;  // no thread has a sample: none has a ray
    __syncthreads();           // the order is whole
    NF_ROLL for (int first = 0; first < n_places; first += kRows)
        evaluate_tile(args, order, first, min(kRows, n_places - first), tile, samples);
    if (network >= 0) {
      const float rgb[3] = {samples.rgb[0][thread], samples.rgb[1][thread], samples.rgb[2][thread]};
      if (!ray.add(args.march, samples.alpha[thread], rgb, true, t_start)) ray.finish(args.image);
    }
  }
}

}  // namespace

void kilo_render(const KiloField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                 const FusedImage& image, float* merged) {
  const int w = field.shape.width;
  for_each("kilo_merge", field.n_networks * (w * w + w), Merge{field.shape, field.params, merged});
  const int shared = Tile::n_entries(field.shape) * kStride * static_cast<int>(sizeof(float));
  const int most = max_shared_bytes() - static_cast<int>(sizeof(Samples) + sizeof(Order));
  if (shared > most)
    throw std::invalid_argument("kilo_render: a network takes " + std::to_string(shared) +
                                " bytes of shared memory, more than " + std::to_string(most) +
                                " of this device: use a smaller width or fewer frequencies");
  launch("kilo_render", kilo_render_kernel, Grid{blocks_for(rays.n, kBlockRays), kThreads, shared},
         Arguments{field, march, rays, skip_weight, image, merged});
}

}  // namespace nf::cuda
