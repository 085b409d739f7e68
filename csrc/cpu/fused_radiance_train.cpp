// SPDX-License-Identifier: Apache-2.0
#include "cpu/fused_radiance_train.h"

#include <algorithm>
#include <cmath>

#include "cpu/depth_error.h"
#include "cpu/level_rows.h"
#include "math/composite.h"
#include "math/trunc_exp.h"

namespace nf::cpu {
namespace {

constexpr int kTileRows = 4096;
constexpr int kTargetRows = 2048;  // samples of a chunk on average: half the tile, as rays differ
constexpr int kRoundsPerRay = 4;   // what is evaluated behind a surface is lost, half a round of samples a ray
constexpr int kShortestRound = 2, kLongestRound = 32;
constexpr int kRowsPerRound = 64;       // few rays left: longer steps keep the products and the encoding efficient
constexpr float kEntropyFloor = 1e-6f;  // -O ln O has an infinite slope at 0; constant below

int64_t tile_rows(const FusedMarch& march) { return std::max(kTileRows, march.max_samples + kLongestRound); }

}  // namespace

template <typename A>
TrainTile<A>::TrainTile(const PackedField& field, const FusedMarch& march, Arena& arena)
    : field_(field), march_(march), tile_(field, march, tile_rows(march), true, arena) {
  const int64_t rows = tile_rows(march), width = field.color.width();
  harmonics_ = arena.take<float>(kMaxChunkRays * int64_t(field.direction_width()));
  side_ = arena.take<float>(kMaxChunkRays * width);
  dL_dside_ = arena.take<float>(kMaxChunkRays * width);
  first_ = arena.take<int32_t>(kMaxChunkRays + 1);
  order_ = arena.take<int32_t>(rows);
  geometry_ = std::is_same_v<A, float> ? nullptr : arena.take<A>(kBlockRows * int64_t(field.geometry_width()));
  color_hidden_ = NetRows<A>::allocate(arena, field.color, rows);
  rgb_ = arena.take<float>(rows * 4 + kLanes);
  dL_drgb_ = arena.take<float>(rows * 4 + kLanes);
  dL_dtau_ = arena.take<float>(rows + kLanes);
  block_ = BackwardBlock<A>::allocate(
      arena, std::max({field.color.width(), field.density.width(), field.encoding_width(), field.geometry_width()}));
  dL_dgeometry_ = arena.take<float>(kBlockRows * int64_t(field.geometry_width()));
  dL_dencoding_ = arena.take<float>(kBlockRows * int64_t(field.encoding_width()));
  if (!harmonics_) return;
  std::fill_n(harmonics_, kMaxChunkRays * int64_t(field.direction_width()), field.field.color.input_padding);
  std::fill_n(rgb_, rows * 4, 0.0f);
  std::fill_n(dL_drgb_, rows * 4, 0.0f);
}

template <typename A>
int64_t TrainTile<A>::run(const FusedRays& rays, int64_t begin, int64_t end, const FusedTargets& targets,
                          const FusedLoss& loss, float samples_per_ray, const FusedSamples& samples, int64_t first_row,
                          int64_t max_rows, const FusedRayOutputs& outputs, float* gradients, SlotSums& sums) {
  const int per_pixel = targets.n_rays;
  int64_t used = 0;
  double expected = std::max(0.25, double(samples_per_ray));
  while (begin < end) {
    const auto wanted = static_cast<int64_t>(kTargetRows / expected);
    const int64_t some = std::min({std::max<int64_t>(wanted, per_pixel), int64_t(kMaxChunkRays), end - begin});
    const int n = static_cast<int>(some / per_pixel * per_pixel);
    if (!forward(rays, begin, n, per_pixel, expected, max_rows - used)) break;  // the slot is full
    shade(rays, begin);
    order_samples();
    composite(begin, targets, loss, outputs, sums);
    backward(samples, first_row + used, gradients, sums);
    used += tile_.n_rows;
    begin += tile_.n_rays;
    sums.n_rays_used += tile_.n_rays;
    expected = std::max(0.25, double(tile_.n_rows) / tile_.n_rays);
  }
  for (int64_t i = begin; i < end; ++i) {  // dropped
    if (outputs.rgb) std::copy_n(targets.background + 3 * (i / per_pixel), 3, outputs.rgb + 3 * i);
    if (outputs.depth) outputs.depth[i] = 0;
    if (outputs.acc) outputs.acc[i] = 0;
  }
  sums.n_samples += used;
  sums.n_evaluated += tile_.n_evaluated;
  return used;
}

// Marches rays [begin, begin + n) to their ends, or those of as many of the first pixels as fit; false when not one
// does.
template <typename A>
bool TrainTile<A>::forward(const FusedRays& rays, int64_t begin, int n, int rays_per_pixel, double samples_per_ray,
                           int64_t max_rows) {
  const int64_t limit = std::min(tile_.capacity, max_rows);
  const int shortest = std::clamp(static_cast<int>(samples_per_ray / kRoundsPerRay), kShortestRound, kLongestRound);
  tile_.begin(rays, begin, n);
  while (tile_.n_live > 0) {
    const int64_t space = (limit - tile_.n_rows) / tile_.n_live;
    const int most = std::clamp(kRowsPerRound / tile_.n_live, shortest, kLongestRound);
    if (space >= 1) {
      tile_.advance(static_cast<int>(std::min<int64_t>(most, space)));
      tile_.retire([](int32_t, float, float) { return true; });
    } else if (const int half = tile_.n_rays / (2 * rays_per_pixel) * rays_per_pixel; half > 0) {
      tile_.truncate(half);  // the others come back in the next chunk
    } else {
      return false;
    }
  }
  return true;
}

template <typename A>
void TrainTile<A>::shade(const FusedRays& rays, int64_t begin) {
  const PackedNet& net = field_.color;
  const int64_t width = net.width(), geometry_width = field_.geometry_width();
  direction_rows(field_, rays.directions + 3 * begin, tile_.n_rays, harmonics_);
  gemm_rows(harmonics_, field_.direction_width(), net.side().single.input_major, int64_t(field_.direction_width()),
            width, {}, side_, width, tile_.n_rays);
  for (int64_t row = 0; row < tile_.n_rows; row += kBlockRows) {
    const int64_t n = std::min<int64_t>(kBlockRows, tile_.n_rows - row);
    const NetRows<A> rows = color_hidden_.at(row, net);
    const A* geometry = rounded(tile_.geometry + row * geometry_width, n * geometry_width, geometry_);
    hidden_forward(net, geometry, geometry_width, {side_, width, tile_.ray + row}, rows, n);
    output_forward(net, rows, rgb_ + row * 4, 4, n);
    apply_activation(net.output_activation(), rgb_ + row * 4, rgb_ + row * 4, n * 4);
  }
}

template <typename A>
void TrainTile<A>::order_samples() {
  first_[0] = 0;
  for (int r = 0; r < tile_.n_rays; ++r) first_[r + 1] = first_[r] + tile_.count[r];
  for (int64_t row = 0; row < tile_.n_rows; ++row)
    order_[first_[tile_.ray[row]] + tile_.ordinal[row]] = static_cast<int32_t>(row);
}

namespace {

// Derivatives by the sum of the colours and of the opacities of a pixel's rays, over whose mean the loss is.
RayLoss pixel_loss(const float* composited, float acc, const FusedTargets& targets, int64_t pixel,
                   const FusedLoss& loss, SlotSums& sums) {
  const float *target = targets.rgb + 3 * pixel, *background = targets.background + 3 * pixel;
  const float share = 1.0f / static_cast<float>(targets.n_rays);
  RayLoss g{};
  float total = 0, squared = 0;
  for (int c = 0; c < 3; ++c) {
    const float d = share * composited[c] + (1.0f - share * acc) * background[c] - target[c];
    const float size = std::fabs(d), delta = loss.huber_delta;
    total += size <= delta ? d * d : delta * (2.0f * size - delta);
    squared += d * d;
    g.dL_drgb[c] = 2.0f * loss.loss_scale * (size <= delta ? d : std::copysign(delta, d)) * share;
    g.dL_dacc -= g.dL_drgb[c] * background[c];
  }
  sums.loss += double(loss.loss_scale) * total;
  sums.squared_error += squared;
  return g;
}

// Adds the entropy of a ray's opacity; returns its derivative.
float entropy_loss(float opacity, const FusedLoss& loss, SlotSums& sums) {
  if (!(loss.entropy_scale > 0)) return 0.0f;
  const float acc = clamp(opacity, kEntropyFloor, 1.0f), log_acc = std::log(acc);
  sums.loss -= double(loss.entropy_scale) * acc * log_acc;
  return acc == opacity ? -loss.entropy_scale * (log_acc + 1.0f) : 0.0f;
}

void write_ray(int64_t i, const CompositeForward<float>& ray, const float* background, const FusedRayOutputs& outputs) {
  if (outputs.rgb) {
    float* rgb = outputs.rgb + 3 * i;
    rgb[0] = ray.r + (1.0f - ray.acc) * background[0];
    rgb[1] = ray.g + (1.0f - ray.acc) * background[1];
    rgb[2] = ray.b + (1.0f - ray.acc) * background[2];
  }
  if (outputs.depth) outputs.depth[i] = ray.depth;
  if (outputs.acc) outputs.acc[i] = ray.acc;
}

}  // namespace

template <typename A>
RayForward TrainTile<A>::composite_ray(int r, bool with_distortion, float inverse_distance) const {
  RayForward ray;
  for (const int32_t* p = order_ + first_[r]; p < order_ + first_[r + 1]; ++p) {
    const float *c = rgb_ + *p * 4, t = tile_.t_starts[*p], dt = tile_.t_ends[*p] - t;
    const float weight = ray.light.add(tile_.alpha[*p], c[0], c[1], c[2], t);
    if (with_distortion) ray.distortion.add(weight, 0.5f * (t + tile_.t_ends[*p]), dt);
    if (inverse_distance > 0) ray.agreement = madd(weight, depth_agreement(t * inverse_distance), ray.agreement);
  }
  return ray;
}

template <typename A>
void TrainTile<A>::composite(int64_t begin, const FusedTargets& targets, const FusedLoss& loss,
                             const FusedRayOutputs& outputs, SlotSums& sums) {
  RayForward rays[kMaxRaysPerPixel];
  float inverse_distance[kMaxRaysPerPixel], depth_weight[kMaxRaysPerPixel];
  for (int first = 0; first < tile_.n_rays; first += targets.n_rays) {
    const int64_t pixel = (begin + first) / targets.n_rays;
    float rgb[3] = {}, acc = 0;
    for (int k = 0; k < targets.n_rays; ++k) {
      const float* known = targets.distances ? targets.distances + 2 * (begin + first + k) : nullptr;
      depth_weight[k] = known && known[1] > 0 ? known[1] : 0.0f;
      inverse_distance[k] = depth_weight[k] > 0 ? 1.0f / known[0] : 0.0f;
      rays[k] = composite_ray(first + k, loss.distortion_scale > 0, inverse_distance[k]);
      rgb[0] += rays[k].light.r;
      rgb[1] += rays[k].light.g;
      rgb[2] += rays[k].light.b;
      acc += rays[k].light.acc;
    }
    RayLoss shared = pixel_loss(rgb, acc, targets, pixel, loss, sums);
    shared.distortion = loss.distortion_scale;
    for (int k = 0; k < targets.n_rays; ++k) {
      const int r = first + k;
      RayLoss g = shared;
      g.dL_dacc += entropy_loss(rays[k].light.acc, loss, sums);
      if (depth_weight[k] > 0) {
        sums.loss += double(depth_weight[k]) * (1.0f - rays[k].agreement);
        g.agreement = -depth_weight[k];
        g.inverse_distance = inverse_distance[k];
      }
      sums.loss += double(loss.distortion_scale) * rays[k].distortion.value;
      write_ray(begin + r, rays[k].light, targets.background + 3 * pixel, outputs);
      composite_backward(rays[k], g, order_ + first_[r], order_ + first_[r + 1]);
    }
  }
}

template <typename A>
void TrainTile<A>::composite_backward(const RayForward& ray, const RayLoss& g, const int32_t* rows,
                                      const int32_t* rows_end) {
  const CompositeForward<float>& light = ray.light;
  const float *rgb = g.dL_drgb, total = rgb[0] * light.r + rgb[1] * light.g + rgb[2] * light.b + g.dL_dacc * light.acc +
                                        2.0f * g.distortion * ray.distortion.value + g.agreement * ray.agreement;
  const bool with_distortion = g.distortion > 0 && rows < rows_end;
  const auto midpoint = [this](int32_t row) { return 0.5f * (tile_.t_starts[row] + tile_.t_ends[row]); };
  DistortionBackward<float> spread(0, 0, 0);
  if (with_distortion) {
    const float first = midpoint(*rows), last = midpoint(rows_end[-1]);
    // sum w (m - first), from the lever at the last sample: sum w (last - m)
    const float lever = light.acc * (last - first) - ray.distortion.lever;
    spread = DistortionBackward<float>(light.acc, lever, first);
  }
  CompositeBackward<float> walk(total);
  for (const int32_t* p = rows; p < rows_end; ++p) {
    const float *c = rgb_ + *p * 4, alpha = tile_.alpha[*p];
    const float weight = walk.weight(alpha);
    float v = rgb[0] * c[0] + rgb[1] * c[1] + rgb[2] * c[2] + g.dL_dacc;
    if (with_distortion) {
      float d_weight, d_midpoint;
      spread.add(weight, midpoint(*p), tile_.t_ends[*p] - tile_.t_starts[*p], &d_weight, &d_midpoint);
      v += g.distortion * d_weight;
    }
    if (g.agreement != 0) v += g.agreement * depth_agreement(tile_.t_starts[*p] * g.inverse_distance);
    for (int k = 0; k < 3; ++k) dL_drgb_[*p * 4 + k] = weight * rgb[k];
    dL_dtau_[*p] = walk.add(alpha, v);
  }
}

template <typename A>
void TrainTile<A>::backward(const FusedSamples& samples, int64_t first_row, float* gradients, SlotSums& sums) {
  const int64_t width = field_.color.width();
  std::fill_n(dL_dside_, tile_.n_rays * width, 0.0f);
  for (int axis = 0; axis < 3; ++axis)
    std::copy_n(tile_.x[axis], tile_.n_rows, samples.positions + axis * samples.capacity + first_row);
  for (int64_t row = 0; row < tile_.n_rows; row += kBlockRows) {
    const int64_t n = std::min<int64_t>(kBlockRows, tile_.n_rows - row);
    backward_block(row, n, gradients);
    store_block(samples, first_row + row, n, sums);
  }
  const PackedLayer& side = field_.color.side();
  gemm_outer(dL_dside_, width, harmonics_, int64_t(side.n_in), width, int64_t(side.n_in), tile_.n_rays,
             gradients + field_.density.gradient_size() + side.gradient);
}

// From dL/drgb and dL/dtau of n rows to dL_dencoding_, with the gradients of both networks on the way.
template <typename A>
void TrainTile<A>::backward_block(int64_t row, int64_t n, float* gradients) {
  const PackedNet &color = field_.color, &density = field_.density;
  const int64_t geometry_width = field_.geometry_width(), encoding_width = field_.encoding_width();
  const SurfaceDensity& surface = field_.field.surface;
  const float* geometry = tile_.geometry + row * geometry_width;
  float* dL_drgb = dL_drgb_ + row * 4;
  apply_activation_gradient(color.output_activation(), rgb_ + row * 4, dL_drgb, dL_drgb, n * 4);
  const A* color_input = rounded(geometry, n * geometry_width, geometry_);
  net_backward(color, color_input, geometry_width, color_hidden_.at(row, color), dL_drgb, 4, n, block_,
               gradients + density.gradient_size(), dL_dgeometry_, geometry_width,
               [&](const A* dL_dpre, int64_t width) {
                 for (int64_t i = 0; i < n; ++i) {
                   float* sum = dL_dside_ + tile_.ray[row + i] * width;
                   for (int64_t k = 0; k < width; k += kLanes)
                     store(sum + k, load(sum + k) + load(dL_dpre + i * width + k));
                 }
               });
  for (int64_t i = 0; i < n; ++i) {
    const float dt = tile_.t_ends[row + i] - tile_.t_starts[row + i];
    const float h = geometry[i * geometry_width];
    const float derivative = surface.is_surface()
                                 ? surface.derivative(h, tile_.x[0][row + i], tile_.x[1][row + i], tile_.x[2][row + i])
                                 : trunc_exp_derivative(h);
    dL_dgeometry_[i * geometry_width] += dL_dtau_[row + i] * dt * derivative;
  }
  net_backward(density, tile_.encoding + row * encoding_width, encoding_width, tile_.hidden.at(row, density),
               dL_dgeometry_, geometry_width, n, block_, gradients, dL_dencoding_, encoding_width,
               [](const A*, int64_t) {});
}

template <typename A>
void TrainTile<A>::store_block(const FusedSamples& samples, int64_t first_row, int64_t n, SlotSums& sums) {
  const int64_t width = field_.encoding_width();
  vf not_finite{};
  for (int64_t i = 0; i < n * width; i += kLanes) not_finite += load(dL_dencoding_ + i) * 0.0f;
  sums.not_finite += reduce_add(not_finite);
  dispatch_features(field_.field.grid, [&](auto F) {
    samples_to_levels<F>(dL_dencoding_, width, field_.field.grid.n_levels, n, samples.dL_dencoding + first_row * F,
                         samples.capacity * F);
  });
}

template class TrainTile<float>;
#if defined(__AVX512F__)
template class TrainTile<bf16>;
#endif

}  // namespace nf::cpu
