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

class RenderTile {
 public:
  RenderTile(const PackedField& field, const FusedMarch& march, Arena& arena);
  void run(const FusedRays& rays, int64_t begin, int n, float skip_weight, const FusedImage& image);

 private:
  void shade();

  const PackedField& field_;
  RayTile tile_;
  float *harmonics_, *side_;  // rays
  float *rgb_, *depth_, *median_depth_, *acc_;
  NetRows hidden_;  // one block
  float* block_rgb_;
};

RenderTile::RenderTile(const PackedField& field, const FusedMarch& march, Arena& arena)
    : field_(field), tile_(field, march, kRoundRows, false, arena) {
  harmonics_ = arena.take<float>(kChunkRays * int64_t(field.direction_width()));
  side_ = arena.take<float>(kChunkRays * int64_t(field.color.width()));
  rgb_ = arena.take<float>(kChunkRays * 3);
  for (float** values : {&depth_, &median_depth_, &acc_}) *values = arena.take<float>(kChunkRays);
  hidden_ = NetRows::allocate(arena, field.color, kBlockRows);
  block_rgb_ = arena.take<float>(kBlockRows * 4);
  if (!harmonics_) return;
  std::fill_n(harmonics_, kChunkRays * int64_t(field.direction_width()), field.field.color.input_padding);
  std::fill_n(block_rgb_, kBlockRows * 4, 0.0f);
}

void RenderTile::run(const FusedRays& rays, int64_t begin, int n, float skip_weight, const FusedImage& image) {
  const PackedNet& net = field_.color;
  tile_.begin(rays, begin, n);
  direction_rows(field_, rays.directions + 3 * begin, n, harmonics_);
  gemm_rows(harmonics_, field_.direction_width(), net.side().input_major, int64_t(field_.direction_width()),
            int64_t(net.width()), kNoInit, 0, side_, net.width(), n);
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
void RenderTile::shade() {
  const PackedNet& net = field_.color;
  const int64_t width = net.width(), geometry_width = field_.geometry_width();
  float* init = hidden_.pre[0] ? hidden_.pre[0] : hidden_.hidden[0];
  for (int64_t row = 0; row < tile_.n_rows; row += kBlockRows) {
    const int64_t n = std::min<int64_t>(kBlockRows, tile_.n_rows - row);
    for (int64_t i = 0; i < n; ++i) std::copy_n(side_ + tile_.ray[row + i] * width, width, init + i * width);
    hidden_forward(net, tile_.geometry + row * geometry_width, geometry_width, true, hidden_, n);
    output_forward(net, hidden_, block_rgb_, 4, n);
    apply_activation(net.output_activation(), block_rgb_, block_rgb_, n * 4);
    for (int64_t i = 0; i < n; ++i) {
      float* sum = rgb_ + 3 * tile_.ray[row + i];
      for (int c = 0; c < 3; ++c) sum[c] += tile_.alpha[row + i] * block_rgb_[4 * i + c];
    }
  }
}

// Positions of one task: axes as arrays, their encoding, one block of the density net.
struct DensityTile {
  float* x[3];
  float *encoding, *log_sigma;
  NetRows hidden;
  DensityTile(const PackedField& field, Arena& arena) {
    for (float*& axis : x) axis = arena.take<float>(kChunkPositions);
    encoding = arena.take<float>(kChunkPositions * int64_t(field.encoding_width()));
    log_sigma = arena.take<float>(kChunkPositions);
    hidden = NetRows::allocate(arena, field.density, kBlockRows);
    if (encoding)
      std::fill_n(encoding, kChunkPositions * int64_t(field.encoding_width()), field.field.density.input_padding);
  }
};

// sigma of n <= kChunkPositions positions
void density_of(const PackedField& field, const float* positions, int64_t n, const DensityTile& tile, float* sigma) {
  const PackedNet& net = field.density;
  const int64_t width = field.encoding_width();
  for (int axis = 0; axis < 3; ++axis)
    for (int64_t i = 0; i < n; ++i)
      tile.x[axis][i] = (positions[3 * i + axis] - field.field.box_low[axis]) * field.field.box_scale[axis];
  encode_rows(field, tile.x, n, tile.encoding);
  for (int64_t row = 0; row < n; row += kBlockRows) {
    const int64_t count = std::min<int64_t>(kBlockRows, n - row);
    hidden_forward(net, tile.encoding + row * width, width, false, tile.hidden, count);
    gemm_dot(tile.hidden.hidden[net.n_hidden() - 1], int64_t(net.width()), net.layers().back().output_major,
             int64_t(net.width()), int64_t(net.width()), 1, kNoInit, tile.log_sigma + row, 1, count);
  }
  for (int64_t i = 0; i < n; i += kLanes) store(tile.log_sigma + i, exponential(load(tile.log_sigma + i)));
  std::copy_n(tile.log_sigma, n, sigma);
}

}  // namespace

int64_t fused_render_scratch_bytes(const FusedField& field, const FusedMarch& march) {
  const PackedField packed(field);
  Arena render(nullptr), density(nullptr);
  const RenderTile render_tile(packed, march, render);
  const DensityTile density_tile(packed, density);
  return std::max(render.used(), density.used());
}

void fused_render(const FusedField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                  const FusedImage& image, std::byte* scratch, int64_t scratch_bytes) {
  const PackedField packed(field);
  parallel_tasks((rays.n + kChunkRays - 1) / kChunkRays, [&](int64_t chunk, int thread_idx) {
    Arena arena(scratch + thread_idx * scratch_bytes);
    RenderTile tile(packed, march, arena);
    const int64_t begin = chunk * kChunkRays;
    tile.run(rays, begin, static_cast<int>(std::min<int64_t>(kChunkRays, rays.n - begin)), skip_weight, image);
  });
}

void fused_density(const FusedField& field, const float* positions, int64_t n, float* sigma, std::byte* scratch,
                   int64_t scratch_bytes) {
  const PackedField packed(field);
  parallel_tasks((n + kChunkPositions - 1) / kChunkPositions, [&](int64_t chunk, int thread_idx) {
    Arena arena(scratch + thread_idx * scratch_bytes);
    const DensityTile tile(packed, arena);
    const int64_t begin = chunk * kChunkPositions;
    density_of(packed, positions + 3 * begin, std::min(kChunkPositions, n - begin), tile, sigma + begin);
  });
}

}  // namespace nf::cpu
