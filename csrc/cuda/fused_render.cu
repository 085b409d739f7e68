// SPDX-License-Identifier: Apache-2.0
// Images and densities of a radiance field in one kernel each. A lane of a warp carries one ray: it marches to the next
// occupied step, encodes it and puts the features into its row of shared memory; the warp takes its 32 rows through the
// networks on tensor cores (mlp_warp.h), each lane composites its own sample. A lane whose ray has ended takes the next
// ray of the image at once, so that warps stay full without compaction. What a ray sees does not depend on its
// neighbours.
#include <algorithm>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "cuda/device_warp.cuh"
#include "cuda/grid_by_warp.h"
#include "cuda/image_ray.h"
#include "cuda/launch.h"
#include "cuda/mlp_warp.h"
#include "math/spherical_harmonics.h"
#include "ops/fused_render.h"
#include "ops/hash_grid.h"

namespace nf::cuda {
namespace {

using W = DeviceWarp;
constexpr int kThreads = kWarps * kLanesOfWarp;
constexpr int kRows = kRowBlocks * kSide;  // of a warp: one per lane
static_assert(kRows == kLanesOfWarp);
constexpr int kMaxLevels = 32;
constexpr int kSkew = 8;  // halves behind each row: rows of 16 n + 8 halves start in different banks
constexpr int kMinWidth = 2;

// One network as kernels see it.
struct Net {
  MlpWeights weights;
  Activation output_activation;
  int row_halves;  // of an input row in shared memory
};

struct FieldArguments {
  GridLevel levels[kMaxLevels];
  int n_levels, n_features_per_level;
  Interpolation interpolation;
  const half* table;
  float box_low[3], box_scale[3];
  Net density, color;
  float density_padding, color_padding;
  int n_encoding, n_geometry, sh_degree;  // columns
};

// Shared memory of one warp, all rows kRows: inputs of both networks, ln(sigma), rgb and an idle column.
struct WarpMemory {
  half *encoding, *color_input;
  float *log_sigma, *rgb;
  static NF_HD int bytes(int row_halves) { return kRows * (row_halves * 2 + 5 * 4); }  // of rows of both networks
  static NF_HD int bytes(const FieldArguments& field) {
    return bytes(field.density.row_halves + field.color.row_halves);
  }
  NF_DEVICE WarpMemory(std::byte* memory, const FieldArguments& field)
      : encoding(reinterpret_cast<half*>(memory)),
        color_input(encoding + kRows * field.density.row_halves),
        log_sigma(reinterpret_cast<float*>(color_input + kRows * field.color.row_halves)),
        rgb(log_sigma + kRows) {}
};

// Block k of the columns of rows of halves, as A operand.
NF_DEVICE Words row_words(const half* rows, int row_halves, int m, int k, int lane) {
  Words words;
  NF_UNROLL for (int w = 0; w < 4; ++w) {
    const int row = m * kSide + word_row(lane, w), column = k * kSide + word_column(lane, w);
    words.w[w] = *reinterpret_cast<const uint32_t*>(rows + row * row_halves + column);
  }
  return words;
}

template <int F>
NF_DEVICE void encode_levels(const FieldArguments& field, const float (&x)[3], bool is_sample, half* row) {
#pragma unroll 1
  for (int l = 0; l < field.n_levels; ++l) {
    float features[F];
    grid_forward_by_warp<float, 3, F>(field.levels[l], field.interpolation, field.table + field.levels[l].offset * F, x,
                                      features);
    if (is_sample) NF_UNROLL for (int f = 0; f < F; ++f) row[l * F + f] = to_half(features[f]);
  }
}
// Features of a position in unit space where that is a sample; all lanes come here.
NF_DEVICE void encode(const FieldArguments& field, const float (&position)[3], bool is_sample, half* row) {
  float x[3];
  NF_UNROLL for (int axis = 0; axis < 3; ++axis) x[axis] =
      (position[axis] - field.box_low[axis]) * field.box_scale[axis];
  switch (field.n_features_per_level) {
    case 1:
      return encode_levels<1>(field, x, is_sample, row);
    case 2:
      return encode_levels<2>(field, x, is_sample, row);
    case 4:
      return encode_levels<4>(field, x, is_sample, row);
    default:
      return encode_levels<8>(field, x, is_sample, row);
  }
}

struct HalfRow {
  half* row;
  NF_DEVICE void operator()(int k, float value) { row[k] = to_half(value); }
};
template <int kDegree>
NF_DEVICE void harmonics_up_to(int degree, const float (&d)[3], HalfRow& out) {
  if constexpr (kDegree > 1)
    if (degree < kDegree) return harmonics_up_to<kDegree - 1>(degree, d, out);
  spherical_harmonics<kDegree>(d[0], d[1], d[2], out);
}

// The first output, ln(sigma), to log_sigma; all of them to the input of the colour network.
template <int T>
NF_DEVICE void density_rows(const FieldArguments& field, const MlpWeights& net, const WarpMemory& memory) {
  mlp_forward<W, T>(
      net, SavedBlocks{nullptr, 0, T}, 0,
      [&](int m, int k) {
        return W::each([&](int lane) { return row_words(memory.encoding, field.density.row_halves, m, k, lane); });
      },
      [&](int m, int n, const Sums& sums) {
        W::each([&](int lane) {
          NF_UNROLL for (int v = 0; v < 8; ++v) {
            const int row = m * kSide + sum_row(lane, v), column = n * kSide + sum_column(lane, v);
            if (column < field.n_geometry)
              memory.color_input[row * field.color.row_halves + column] = to_half(sums.v[v]);
            if (column == 0) memory.log_sigma[row] = sums.v[v];
          }
        });
      });
}
template <int T>
NF_DEVICE void color_rows(const FieldArguments& field, const MlpWeights& net, const WarpMemory& memory) {
  mlp_forward<W, T>(
      net, SavedBlocks{nullptr, 0, T}, 0,
      [&](int m, int k) {
        return W::each([&](int lane) { return row_words(memory.color_input, field.color.row_halves, m, k, lane); });
      },
      [&](int m, int n, const Sums& sums) {
        const Sums color = activated(field.color.output_activation, sums);
        W::each([&](int lane) {
          NF_UNROLL for (int v = 0; v < 8; ++v) {
            const int row = m * kSide + sum_row(lane, v), column = n * kSide + sum_column(lane, v);
            if (column < 3) memory.rgb[row * 4 + column] = color.v[v];
          }
        });
      });
}

// Lanes with a sample that are worth an evaluation: the last few would have the others wait for their way through empty
// steps, and may as well go on with it the next time.
constexpr int kEnough = 24;

struct ImageArguments {
  FusedMarch march;
  FusedRays rays;
  float skip_weight;
  FusedImage image;
  unsigned long long* next_ray;
};

NF_DEVICE void stage_matrices(const MlpWeights& net, Words* to) {
  for (int i = threadIdx.x; i < net.size.n_matrix_blocks() * kLanesOfWarp; i += kThreads) to[i] = net.matrices[i];
}

// Blocks of a multiprocessor for which render_kernel leaves registers.
template <int T>
constexpr int kResident = T > 4 ? 2 : 5 - T / 2;  // 4, 3
template <int T>
__global__ void __launch_bounds__(kThreads, kResident<T>)
    render_kernel(const __grid_constant__ FieldArguments field, const __grid_constant__ ImageArguments args) {
  Words* shared = dynamic_shared<Words>();
  MlpWeights density = field.density.weights, color = field.color.weights;
  Words* color_matrices = shared + density.size.n_matrix_blocks() * kLanesOfWarp;
  stage_matrices(density, shared);
  stage_matrices(color, color_matrices);
  const int lane = threadIdx.x % kLanesOfWarp, warp = threadIdx.x / kLanesOfWarp;
  auto* rows = reinterpret_cast<std::byte*>(color_matrices + color.size.n_matrix_blocks() * kLanesOfWarp);
  const WarpMemory memory(rows + warp * WarpMemory::bytes(field), field);
  density.matrices = shared;
  color.matrices = color_matrices;
  // Padding, and finite values wherever a lane has no sample.
  half* encoding = memory.encoding + lane * field.density.row_halves;
  half* color_input = memory.color_input + lane * field.color.row_halves;
  for (int k = 0; k < field.density.row_halves; ++k)
    encoding[k] = to_half(k < field.n_encoding ? 0.0f : field.density_padding);
  const int n_color = field.n_geometry + field.sh_degree * field.sh_degree;
  for (int k = 0; k < field.color.row_halves; ++k) color_input[k] = to_half(k < n_color ? 0.0f : field.color_padding);
  __syncthreads();

  const FusedMarch& march = args.march;
  ImageRay ray;
  bool rays_left = true;
  for (;;) {
    float t_start = 0, t_end = 0;
    bool has_sample = false;
    int n_samples = 0;
    bool any_looks = true;
#pragma unroll 1
    while (any_looks && n_samples < kEnough) {
      if (!has_sample && ray.index < 0 && rays_left) {
        const auto i = static_cast<int64_t>(atomicAdd(args.next_ray, 1ull));
        rays_left = i < args.rays.n;
        if (rays_left) {
          ray.begin(march, args.rays, i);
          HalfRow harmonics{color_input + field.n_geometry};
          harmonics_up_to<kMaxSphericalHarmonicsDegree>(field.sh_degree, ray.march.direction, harmonics);
        }
      }
      if (!has_sample && ray.index >= 0) {
        const Tested tested = ray.test(march, &t_start, &t_end);
        has_sample = tested == Tested::kSample;
        if (tested == Tested::kEnd) ray.finish(args.image);
      }
      n_samples = __popc(__ballot_sync(~0u, has_sample));
      any_looks = __any_sync(~0u, !has_sample && (ray.index >= 0 || rays_left));
    }
    if (n_samples == 0) break;  // and none looks for one: no lane has a ray

    float x[3] = {};
    // two roundings, as the CPU's: a sample at a border then falls into the same cell
    if (has_sample)
      NF_UNROLL for (int axis = 0; axis < 3; ++axis) x[axis] =
          ray.march.origin[axis] + t_start * ray.march.direction[axis];
    encode(field, x, has_sample, encoding);
    __syncwarp();
    density_rows<T>(field, density, memory);
    __syncwarp();
    const float alpha = has_sample ? opacity(exponential(memory.log_sigma[lane]) * (t_end - t_start)) : 0.0f;
    const bool is_shaded = has_sample && ray.sum.trans * alpha >= args.skip_weight;
    if (__any_sync(~0u, is_shaded)) {
      color_rows<T>(field, color, memory);
      __syncwarp();
    }
    if (has_sample) {
      const float* from = memory.rgb + 4 * lane;
      const float rgb[3] = {from[0], from[1], from[2]};
      if (!ray.add(march, alpha, rgb, is_shaded, t_start)) ray.finish(args.image);
    }
  }
}

template <int T>
__global__ void __launch_bounds__(kThreads, T <= 4 ? 4 : 2)
    density_kernel(const __grid_constant__ FieldArguments field, const float* positions, int64_t n, float* sigma) {
  Words* shared = dynamic_shared<Words>();
  MlpWeights density = field.density.weights;
  stage_matrices(density, shared);
  const int lane = threadIdx.x % kLanesOfWarp, warp = threadIdx.x / kLanesOfWarp;
  auto* rows = reinterpret_cast<std::byte*>(shared + density.size.n_matrix_blocks() * kLanesOfWarp);
  const WarpMemory memory(rows + warp * WarpMemory::bytes(field), field);
  density.matrices = shared;
  half* encoding = memory.encoding + lane * field.density.row_halves;
  for (int k = 0; k < field.density.row_halves; ++k)
    encoding[k] = to_half(k < field.n_encoding ? 0.0f : field.density_padding);
  __syncthreads();
  for (int64_t first = int64_t(blockIdx.x) * kThreads; first < n; first += int64_t(gridDim.x) * kThreads) {
    const int64_t i = first + threadIdx.x;
    float x[3] = {};
    if (i < n) NF_UNROLL for (int axis = 0; axis < 3; ++axis) x[axis] = positions[3 * i + axis];
    encode(field, x, i < n, encoding);
    __syncwarp();
    density_rows<T>(field, density, memory);
    __syncwarp();
    if (i < n) sigma[i] = exponential(memory.log_sigma[lane]);
  }
}

// ---- host ----

MlpShape shape_of(const FusedNet& net) {
  return {net.n_inputs,   net.n_outputs,         net.width, net.n_hidden,
          net.activation, net.output_activation, false,     net.input_padding};
}
int width_of(const FusedField& field) {
  return std::max(MlpBlocks(shape_of(field.density), kMinWidth).width,
                  MlpBlocks(shape_of(field.color), kMinWidth).width);
}
int64_t matrix_words(const FusedNet& net, int width) {
  return int64_t(MlpBlocks(shape_of(net), width).n_matrix_blocks()) * kLanesOfWarp;
}

int row_halves_of(const MlpBlocks& size) { return size.inputs * kSide + kSkew; }

// Packs a network's matrices to `to`.
Net packed_net(const FusedNet& net, int width, Words* to) {
  const MlpShape shape = shape_of(net);
  const MlpBlocks size(shape, width);
  for_each("fused_mlp_pack", int64_t(size.n_matrix_blocks()) * kLanesOfWarp * 4,
           PackMlp{shape, size, net.params, to->w, nullptr, nullptr});
  return {{size, net.activation, to, nullptr, 0}, net.output_activation, row_halves_of(size)};
}

// `matrices` receives both networks.
FieldArguments arguments_of(const FusedField& field, Words* matrices) {
  if (!field.table_is_half) throw std::runtime_error("fused_render: CUDA reads the table in its float16 copy");
  const std::vector<GridLevel> levels = hash_grid_levels(field.grid);
  if (levels.size() > kMaxLevels) throw std::runtime_error("fused_render: CUDA takes at most 32 levels");
  FieldArguments args;
  std::copy(levels.begin(), levels.end(), args.levels);
  args.n_levels = field.grid.n_levels;
  args.n_features_per_level = field.grid.n_features_per_level;
  args.interpolation = field.grid.interpolation;
  args.table = static_cast<const half*>(field.table);
  std::copy_n(field.box_low, 3, args.box_low);
  std::copy_n(field.box_scale, 3, args.box_scale);
  const int width = width_of(field);
  args.density = packed_net(field.density, width, matrices);
  args.color = packed_net(field.color, width, matrices + matrix_words(field.density, width));
  args.density_padding = field.density.input_padding;
  args.color_padding = field.color.input_padding;
  args.n_encoding = field.grid.n_levels * field.grid.n_features_per_level;
  args.n_geometry = field.density.n_outputs;
  args.sh_degree = field.sh_degree;
  return args;
}

template <typename Body>
void with_width(int width, const Body& body) {
  if (width == 2) return body(std::integral_constant<int, 2>());
  if (width == 4) return body(std::integral_constant<int, 4>());
  return body(std::integral_constant<int, 8>());
}

}  // namespace

int64_t fused_render_scratch_bytes(const FusedField& field, const FusedMarch&) {
  const int width = width_of(field);
  return (matrix_words(field.density, width) + matrix_words(field.color, width) + 1) * int64_t(sizeof(Words));
}

int64_t fused_render_shared_bytes(const FusedField& field) {
  const int width = width_of(field);
  const MlpBlocks density(shape_of(field.density), width), color(shape_of(field.color), width);
  return (matrix_words(field.density, width) + matrix_words(field.color, width)) * int64_t(sizeof(Words)) +
         kWarps * WarpMemory::bytes(row_halves_of(density) + row_halves_of(color));
}

void fused_render(const FusedField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                  const FusedImage& image, std::byte* scratch, int64_t) {
  if (rays.n == 0) return;
  auto* next_ray = reinterpret_cast<unsigned long long*>(scratch);
  auto* matrices = reinterpret_cast<Words*>(scratch) + 1;
  fill_zero(next_ray, 1);
  const FieldArguments args = arguments_of(field, matrices);
  const int shared = static_cast<int>(fused_render_shared_bytes(field));
  with_width(width_of(field), [&](auto T) {
    launch_persistent("fused_render", render_kernel<T>, Grid{blocks_for(rays.n, kThreads), kThreads, shared}, args,
                      ImageArguments{march, rays, skip_weight, image, next_ray});
  });
}

void fused_density(const FusedField& field, const float* positions, int64_t n, float* sigma, std::byte* scratch,
                   int64_t) {
  if (n == 0) return;
  const FieldArguments args = arguments_of(field, reinterpret_cast<Words*>(scratch) + 1);
  const int shared = args.density.weights.size.n_matrix_blocks() * kLanesOfWarp * static_cast<int>(sizeof(Words)) +
                     kWarps * WarpMemory::bytes(args);
  with_width(width_of(field), [&](auto T) {
    launch_persistent("fused_density", density_kernel<T>, Grid{blocks_for(n, kThreads), kThreads, shared}, args,
                      positions, n, sigma);
  });
}

}  // namespace nf::cuda
