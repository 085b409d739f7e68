// SPDX-License-Identifier: Apache-2.0
// Evaluation without gradients: images, and density for occupancy grids and meshes.
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "cpu/fused_radiance_tile.h"

namespace nf::cpu {
namespace {

constexpr int kChunkRays = 512;
constexpr int kRoundRows = 4096;  // capacity; a round takes up to half of it
constexpr int kFirstRound = 4;    // samples per ray and round; more when few rays are left
constexpr int kLongestRound = 32;
constexpr int64_t kChunkPositions = 2048;

template <typename A>
class RenderTile {
 public:
  RenderTile(const PackedField& field, const FusedMarch& march, Arena& arena);
  void run(const FusedRays& rays, int64_t begin, int n, float skip_weight, const FusedImage& image);

 private:
  void shade();

  const PackedField& field_;
  RayTile<A> tile_;
  float *harmonics_, *side_;  // rays
  float *rgb_, *depth_, *median_depth_, *acc_;
  NetRows<A> hidden_;  // one block
  A* geometry_;        // of it, as the colour net reads it; unused for float
  float* block_rgb_;
};

template <typename A>
RenderTile<A>::RenderTile(const PackedField& field, const FusedMarch& march, Arena& arena)
    : field_(field), tile_(field, march, kRoundRows, false, arena) {
  harmonics_ = arena.take<float>(kChunkRays * int64_t(field.direction_width()));
  side_ = arena.take<float>(kChunkRays * int64_t(field.color.width()));
  rgb_ = arena.take<float>(kChunkRays * 3);
  for (float** values : {&depth_, &median_depth_, &acc_}) *values = arena.take<float>(kChunkRays);
  hidden_ = NetRows<A>::allocate(arena, field.color, kBlockRows);
  geometry_ = std::is_same_v<A, float> ? nullptr : arena.take<A>(kBlockRows * int64_t(field.geometry_width()));
  block_rgb_ = arena.take<float>(kBlockRows * 4);
  if (!harmonics_) return;
  std::fill_n(harmonics_, kChunkRays * int64_t(field.direction_width()), field.field.color.input_padding);
  std::fill_n(block_rgb_, kBlockRows * 4, 0.0f);
}

template <typename A>
void RenderTile<A>::run(const FusedRays& rays, int64_t begin, int n, float skip_weight, const FusedImage& image) {
  const PackedNet& net = field_.color;
  tile_.begin(rays, begin, n);
  direction_rows(field_, rays.directions + 3 * begin, n, harmonics_);
  gemm_rows(harmonics_, field_.direction_width(), net.side().single.input_major, int64_t(field_.direction_width()),
            int64_t(net.width()), {}, side_, net.width(), n);
  std::fill_n(rgb_, n * 3, 0.0f);
  std::fill_n(depth_, n, 0.0f);
  std::fill_n(acc_, n, 0.0f);
  std::fill_n(median_depth_, n, INFINITY);
  while (tile_.n_live > 0) {
    tile_.n_rows = 0;
    tile_.advance(std::clamp(kRoundRows / 2 / tile_.n_live, kFirstRound, kLongestRound));
    tile_.retire([&](int32_t row, float weight, float trans) {
      const int32_t r = tile_.ray[row];
      const float t = tile_.t_starts[row];
      acc_[r] += weight;
      depth_[r] += weight * t;
      if (trans < 0.5f && median_depth_[r] == INFINITY) median_depth_[r] = t;
      tile_.alpha[row] = weight;  // what shade() needs of it; it moves with its row
      return weight >= skip_weight;
    });
    shade();
  }
  std::copy_n(rgb_, n * 3, image.rgb + 3 * begin);
  std::copy_n(depth_, n, image.depth + begin);
  std::copy_n(median_depth_, n, image.median_depth + begin);
  std::copy_n(acc_, n, image.acc + begin);
}

// Colour of the samples of a round, added to their rays.
template <typename A>
void RenderTile<A>::shade() {
  const PackedNet& net = field_.color;
  const int64_t width = net.width(), geometry_width = field_.geometry_width();
  for (int64_t row = 0; row < tile_.n_rows; row += kBlockRows) {
    const int64_t n = std::min<int64_t>(kBlockRows, tile_.n_rows - row);
    const A* geometry = rounded(tile_.geometry + row * geometry_width, n * geometry_width, geometry_);
    hidden_forward(net, geometry, geometry_width, {side_, width, tile_.ray + row}, hidden_, n);
    output_forward(net, hidden_, block_rgb_, 4, n);
    apply_activation(net.output_activation(), block_rgb_, block_rgb_, n * 4);
    for (int64_t i = 0; i < n; ++i) {
      float* sum = rgb_ + 3 * tile_.ray[row + i];
      for (int c = 0; c < 3; ++c) sum[c] += tile_.alpha[row + i] * block_rgb_[4 * i + c];
    }
  }
}

// Positions of one task: axes as arrays, their encoding, one block of the density net.
template <typename A>
struct DensityTile {
  float* x[3];
  A* encoding;
  float* sigma;
  NetRows<A> hidden;
  DensityTile(const PackedField& field, Arena& arena) {
    for (float*& axis : x) axis = arena.take<float>(kChunkPositions);
    encoding = arena.take<A>(kChunkPositions * int64_t(field.encoding_width()));
    sigma = arena.take<float>(kChunkPositions);
    hidden = NetRows<A>::allocate(arena, field.density, kBlockRows);
    if (encoding) fill_padding(field, encoding, kChunkPositions);
  }
};

// sigma of n <= kChunkPositions positions
template <typename A>
void density_of(const PackedField& field, const float* positions, int64_t n, const DensityTile<A>& tile, float* sigma) {
  const PackedNet& net = field.density;
  const int64_t width = field.encoding_width();
  for (int axis = 0; axis < 3; ++axis)
    for (int64_t i = 0; i < n; ++i)
      tile.x[axis][i] = (positions[3 * i + axis] - field.field.box_low[axis]) * field.field.box_scale[axis];
  encode_rows(field, tile.x, n, tile.encoding);
  for (int64_t row = 0; row < n; row += kBlockRows) {
    const int64_t count = std::min<int64_t>(kBlockRows, n - row);
    hidden_forward(net, tile.encoding + row * width, width, {}, tile.hidden, count);
    gemm_dot(tile.hidden.hidden[net.n_hidden() - 1], int64_t(net.width()), weights_of<A>(net.layers().back()).rows,
             int64_t(net.width()), int64_t(net.width()), 1, kNoInit, tile.sigma + row, 1, count);
  }
  densities(field, tile.x, n, tile.sigma);
  std::copy_n(tile.sigma, n, sigma);
}

}  // namespace

int64_t fused_render_scratch_bytes(const FusedField& field, const FusedMarch& march) {
  const PackedField packed(field);
  return with_activations(field, [&](auto a) {
    Arena render(nullptr), density(nullptr);
    const RenderTile<decltype(a)> render_tile(packed, march, render);
    const DensityTile<decltype(a)> density_tile(packed, density);
    return std::max(render.used(), density.used());
  });
}

void fused_render(const FusedField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                  const FusedImage& image, std::byte* scratch, int64_t scratch_bytes) {
  const PackedField packed(field);
  with_activations(field, [&](auto a) {
    parallel_tasks((rays.n + kChunkRays - 1) / kChunkRays, [&](int64_t chunk, int thread_idx) {
      Arena arena(scratch + thread_idx * scratch_bytes);
      RenderTile<decltype(a)> tile(packed, march, arena);
      const int64_t begin = chunk * kChunkRays;
      tile.run(rays, begin, static_cast<int>(std::min<int64_t>(kChunkRays, rays.n - begin)), skip_weight, image);
    });
  });
}

void fused_density(const FusedField& field, const float* positions, int64_t n, float* sigma, std::byte* scratch,
                   int64_t scratch_bytes) {
  const PackedField packed(field);
  with_activations(field, [&](auto a) {
    parallel_tasks((n + kChunkPositions - 1) / kChunkPositions, [&](int64_t chunk, int thread_idx) {
      Arena arena(scratch + thread_idx * scratch_bytes);
      const DensityTile<decltype(a)> tile(packed, arena);
      const int64_t begin = chunk * kChunkPositions;
      density_of(packed, positions + 3 * begin, std::min(kChunkPositions, n - begin), tile, sigma + begin);
    });
  });
}

}  // namespace nf::cpu
