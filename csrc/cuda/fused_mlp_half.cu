// SPDX-License-Identifier: Apache-2.0
// Kernels around mlp_warp.h. Forward: persistent thread blocks hold the packed matrices in shared memory (or read them
// through the caches where they do not fit) and activations never leave the registers, except for what backward asks
// for. Backward: one launch for as many layers, from the top, as shared memory has room for; their gradients stay there
// while a thread block goes through its tiles, and each thread block writes one slot at the end. The slots are added in
// order. What a warp reads of the next layer, or of the next tile, is under way while it adds up the gradient of a
// matrix.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cuda/device_warp.cuh"
#include "cuda/launch.h"
#include "cuda/mlp_warp.h"
#include "ops/fused_mlp_half.h"

namespace nf::cuda {
namespace {

constexpr int kThreads = kWarps * kLanesOfWarp;
constexpr int kBlockBytes = kLanesOfWarp * sizeof(Words);  // of halves
constexpr int kSumBytes = kBlockValues * sizeof(float);

// Thread blocks per multiprocessor that registers must leave room for. Backward needs a few registers more.
constexpr int resident(int width) { return width <= 4 ? 4 : 2; }
constexpr int resident_backward(int width) { return width <= 2 ? 4 : width <= 4 ? 3 : 2; }

NF_DEVICE int64_t first_row_block(int64_t tile) {  // of this warp
  return (tile * kWarps + threadIdx.x / kLanesOfWarp) * kRowBlocks;
}

NF_DEVICE void copy_words(const Words* from, Words* to, int n) {
  for (int i = threadIdx.x; i < n; i += kThreads) to[i] = from[i];
}

// Rows of a tile of this warp, a row for each lane.
template <typename X>
NF_DEVICE void prefetch_rows(const Rows<X>& rows, int64_t first_row_block) {
  constexpr int kLine = 128 / sizeof(X);
  const int64_t row = min(first_row_block * kSide + threadIdx.x % kLanesOfWarp, rows.n - 1);
  for (int column = 0; column < rows.n_columns; column += kLine)
    DeviceWarp::prefetch(rows.x + row * rows.n_columns + column);
}

template <typename X>
struct ForwardArguments {
  MlpWeights net;
  RowBlocks<X> input;
  RowSink<X> output;
  Activation output_activation;
  SavedBlocks saved;
  int64_t n_tiles;
};

template <int T, typename X, bool kStaged>
__global__ void __launch_bounds__(kThreads, resident(T)) mlp_forward_kernel(const ForwardArguments<X> args) {
  Words* staged = dynamic_shared<Words>();
  using W = DeviceWarp;
  MlpWeights net = args.net;
  if constexpr (kStaged) {
    copy_words(net.matrices, staged, net.size.n_matrix_blocks() * kLanesOfWarp);
    net.matrices = staged;
    __syncthreads();
  }
  for (int64_t tile = blockIdx.x; tile < args.n_tiles; tile += gridDim.x) {
    const int64_t first = first_row_block(tile);
    prefetch_rows(args.input.rows, first_row_block(tile + gridDim.x));
    mlp_forward<W, T>(
        net, args.saved, first,
        [&](int m, int k) { return W::each([&](int lane) { return args.input(first + m, k, lane); }); },
        [&](int m, int k, const Sums& sums) {
          W::each([&](int lane) { args.output(first + m, k, lane, activated(args.output_activation, sums)); });
        });
  }
}

template <typename X>
struct BackwardArguments {
  MlpWeights net;  // transposed, from layer `lowest` on
  RowBlocks<X> input;
  OutputGradient<X> gradient;  // its scale is set by the kernel
  RowSink<X> input_gradient;   // y null: not wanted
  SavedBlocks saved;
  const uint32_t* largest;  // bits of the largest output gradient
  Words* border;            // between launches
  float* slots;             // [thread blocks, gradient blocks]; null: not wanted
  int lowest, highest;      // layers
  int64_t n_tiles;
};

// Shared memory of a launch: matrices, gradient sums, then the two operands of a tile.
struct BackwardMemory {
  int matrices, sums, gradient, input;  // blocks
  BackwardMemory(const MlpBlocks& size, int lowest, int highest, bool with_params) {
    matrices = size.first_matrix(highest) + size.n_out(highest) * size.n_in(highest) - size.first_matrix(lowest);
    sums = size.first_gradient(highest) + size.n_out(highest) * size.n_columns(highest) - size.first_gradient(lowest);
    gradient = input = 0;
    for (int l = lowest; l <= highest; ++l) {
      gradient = std::max(gradient, size.n_out(l));
      input = std::max(input, size.n_in(l));
    }
    if (!with_params) {
      gradient = highest == size.n_hidden ? size.outputs : 0;
      sums = input = 0;
    }
  }
  int bytes() const {
    return matrices * kBlockBytes + sums * kSumBytes + kTileBlocks * (gradient + input) * kBlockBytes;
  }
};

template <int T, typename X>
__global__ void __launch_bounds__(kThreads, resident_backward(T))
    mlp_backward_kernel(const BackwardArguments<X> args, const BackwardMemory memory) {
  Words* shared = dynamic_shared<Words>();
  using W = DeviceWarp;
  const MlpBlocks& size = args.net.size;
  Words* matrices = shared;
  float* sums = reinterpret_cast<float*>(matrices + memory.matrices * kLanesOfWarp);
  Words* gradient = reinterpret_cast<Words*>(sums + memory.sums * kBlockValues);
  Words* input = gradient + kTileBlocks * memory.gradient * kLanesOfWarp;
  copy_words(args.net.matrices, matrices, memory.matrices * kLanesOfWarp);
  for (int i = threadIdx.x; i < memory.sums * kBlockValues; i += kThreads) sums[i] = 0.0f;
  __syncthreads();

  MlpWeights net = args.net;
  net.matrices = matrices;
  OutputGradient<X> top = args.gradient;
  top.scale = gradient_scale(*args.largest);
  const int warp = threadIdx.x / kLanesOfWarp;
  const auto gradient_of = [&](int64_t row_block, int k) {
    return W::each([&](int lane) { return top(row_block, k, lane); });
  };
  const auto input_of = [&](int64_t row_block, int k) {
    return W::each([&](int lane) { return args.input(row_block, k, lane); });
  };
  MlpBackward<W, T, decltype(gradient_of), decltype(input_of)> backward{net, args.saved, gradient_of, input_of,
                                                                        0,   {},         {}};
  const int64_t n_row_blocks = args.n_tiles * kTileBlocks;
  const auto begin = [&](int64_t row_block) {  // a tile, if it is one
    backward.first_row_block = row_block;
    if (row_block >= n_row_blocks) return;
    backward.fetch(args.highest);
    if (args.highest == size.n_hidden) {
      prefetch_rows(top.dL_dy, backward.first_row_block);
      if (top.activation != Activation::kNone) prefetch_rows(top.outputs(), backward.first_row_block);
    }
    if (args.lowest == 0 && args.slots) prefetch_rows(args.input.rows, backward.first_row_block);
  };
  begin(first_row_block(blockIdx.x));
  while (backward.first_row_block < n_row_blocks) {  // the same for all warps: tiles are whole
    if (args.highest < size.n_hidden) backward.load_border(args.border);
#pragma unroll 1
    for (int l = args.highest; l >= args.lowest; --l) {
      const OuterStage stage{gradient, input, size.n_out(l), size.n_in(l), size.has_bias};
      backward.stage(l, warp, stage, args.slots != nullptr);
      if (l > 0)
        backward.descend(l, warp, stage);
      else if (args.input_gradient.y)
        backward.leave(warp, stage, [&](int m, int k, Sums values) {
#pragma unroll
          for (float& v : values.v) v *= inverse_of_power_of_two(top.scale);
          W::each([&](int lane) { args.input_gradient(backward.first_row_block + m, k, lane, values); });
        });
      if (l > args.lowest) {
        backward.fetch(l - 1);
      } else {
        if (l > 0) backward.store_border(args.border);
        begin(backward.first_row_block + int64_t(gridDim.x) * kTileBlocks);
      }
      if (!args.slots) continue;
      __syncthreads();
      accumulate_outer<W, (T > 4 ? 2 : 1)>(
          stage, warp, sums + (size.first_gradient(l) - size.first_gradient(args.lowest)) * kBlockValues);
      __syncthreads();
    }
  }
  if (!args.slots) return;
  const int64_t first = int64_t(blockIdx.x) * size.n_gradient_blocks() + size.first_gradient(args.lowest);
  for (int i = threadIdx.x; i < memory.sums * kBlockValues; i += kThreads)
    args.slots[first * kBlockValues + i] = sums[i];
}

template <typename X>
__global__ void __launch_bounds__(kBlock)
    largest_gradient_kernel(const OutputGradient<X> gradient, int64_t n, uint32_t* largest) {
  uint32_t bits = 0;
  const int64_t step = int64_t(gridDim.x) * kBlock;
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < n; i += 8 * step) {
    const Sums values = gradient.eight(i, step);
#pragma unroll
    for (const float value : values.v) bits = max(bits, float_bits(value) & 0x7fffffffu);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) bits = max(bits, __shfl_xor_sync(~0u, bits, distance));
  if (threadIdx.x % kLanesOfWarp == 0) atomicMax(largest, bits);
}

constexpr int kSlotGroups = 16;
__global__ void __launch_bounds__(kLanesOfWarp* kSlotGroups)
    sum_slots_kernel(const float* slots, int n_slots, int n_values, const GradientPlace place, const uint32_t* largest,
                     float* dL_dparams) {
  __shared__ float partial[kSlotGroups][kLanesOfWarp];
  const int lane = threadIdx.x % kLanesOfWarp, group = threadIdx.x / kLanesOfWarp;
  const int i = blockIdx.x * kLanesOfWarp + lane;  // n_values is a multiple of a warp
  float sum = 0;
#pragma unroll 8
  for (int slot = group; slot < n_slots; slot += kSlotGroups) sum += slots[int64_t(slot) * n_values + i];
  partial[group][lane] = sum;
  __syncthreads();
  if (group > 0) return;
#pragma unroll
  for (int other = 1; other < kSlotGroups; ++other) sum += partial[other][lane];
  const int64_t p = place(i);
  if (p >= 0) dL_dparams[p] = sum / gradient_scale(*largest);
}

// Calls body(width) with the width in blocks as a constant.
template <typename Body>
auto with_width(const MlpBlocks& size, const Body& body) {
  switch (size.width) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    case 4:
      return body(std::integral_constant<int, 4>());
    default:
      return body(std::integral_constant<int, 8>());
  }
}

int64_t tiles_of(int64_t n) { return (n + kTileRows - 1) / kTileRows; }
SavedBlocks saved_of(const MlpBlocks& size, int64_t n, const std::byte* bytes) {
  return {reinterpret_cast<Words*>(const_cast<std::byte*>(bytes)), tiles_of(n) * kTileBlocks, size.width};
}

constexpr int kSystemBytes = 1024;  // of the shared memory of each thread block

// Layers of each launch, from the top: as many as half of a multiprocessor's shared memory holds, at least one.
struct LayerRange {
  int lowest, highest;
};
std::vector<LayerRange> backward_launches(const MlpBlocks& size, bool with_params) {
  const int room = max_shared_bytes() / 2 - kSystemBytes;
  std::vector<LayerRange> ranges;
  for (int highest = size.n_hidden; highest >= 0; highest = ranges.back().lowest - 1) {
    int lowest = highest;
    while (lowest > 0 && BackwardMemory(size, lowest - 1, highest, with_params).bytes() <= room) --lowest;
    ranges.push_back({lowest, highest});
  }
  return ranges;
}

int shared_bytes_of_backward(const MlpBlocks& size) {
  int bytes = 0;
  for (const LayerRange range : backward_launches(size, true))
    bytes = std::max(bytes, BackwardMemory(size, range.lowest, range.highest, true).bytes());
  return bytes;
}

// As many as a multiprocessor has shared memory for, and registers by the launch bounds: known before the kernel is
// compiled for a device, as the sizes of buffers must be.
int64_t backward_blocks(const MlpBlocks& size, int64_t n) {
  const int by_shared = (max_shared_bytes() + kSystemBytes) / (shared_bytes_of_backward(size) + kSystemBytes);
  return std::min<int64_t>(tiles_of(n),
                           int64_t(clamp(by_shared, 1, resident_backward(size.width))) * n_multiprocessors());
}

// What the backward pass keeps in scratch.
struct BackwardScratch {
  int64_t matrices, slots, border, largest;  // offsets in bytes
  int64_t bytes;
  BackwardScratch(const MlpBlocks& size, int64_t n) {
    matrices = 0;
    slots = matrices + int64_t(size.n_matrix_blocks()) * kBlockBytes;
    border = slots + backward_blocks(size, n) * size.n_gradient_blocks() * kSumBytes;
    largest = border + tiles_of(n) * kTileBlocks * size.width * kBlockBytes;
    bytes = largest + sizeof(Words);
  }
};

}  // namespace

int64_t fused_mlp_half_saved_bytes(const MlpShape& shape, int64_t n) {
  const MlpBlocks size(shape);
  return shape.n_hidden_layers * tiles_of(n) * kTileBlocks * size.width * kBlockBytes;
}
int64_t fused_mlp_half_forward_scratch_bytes(const MlpShape& shape) {
  const MlpBlocks size(shape);
  return int64_t(size.n_matrix_blocks()) * kBlockBytes + size.n_bias() * int64_t(sizeof(float));
}
int64_t fused_mlp_half_backward_scratch_bytes(const MlpShape& shape, int64_t n) {
  return BackwardScratch(MlpBlocks(shape), n).bytes;
}

int64_t fused_mlp_half_shared_bytes(const MlpShape& shape) { return shared_bytes_of_backward(MlpBlocks(shape)); }

template <typename X>
void fused_mlp_half_forward(const MlpShape& shape, const X* x, const float* params, int64_t n, X* y, std::byte* saved,
                            std::byte* scratch) {
  const MlpBlocks size(shape);
  const int matrix_bytes = size.n_matrix_blocks() * kBlockBytes;
  auto* matrices = reinterpret_cast<Words*>(scratch);
  auto* bias = shape.has_bias ? reinterpret_cast<float*>(scratch + matrix_bytes) : nullptr;
  for_each("fused_mlp_pack", n > 0 ? int64_t(size.n_matrix_blocks()) * kLanesOfWarp * 4 : 0,
           PackMlp{shape, size, params, matrices->w, nullptr, bias});
  const ForwardArguments<X> args{{size, shape.activation, matrices, bias, 0},
                                 {{x, n, int(shape.n_input_dims)}, float(shape.input_padding)},
                                 {y, n, int(shape.n_output_dims)},
                                 shape.output_activation,
                                 saved_of(size, n, saved),
                                 tiles_of(n)};
  with_width(size, [&](auto T) {
    const bool staged = matrix_bytes <= max_shared_bytes();
    const auto kernel = staged ? mlp_forward_kernel<T, X, true> : mlp_forward_kernel<T, X, false>;
    launch_persistent("fused_mlp_half_forward", kernel, Grid{tiles_of(n), kThreads, staged ? matrix_bytes : 0}, args);
  });
}

template <typename X>
void fused_mlp_half_backward(const MlpShape& shape, const X* x, const float* params, const X* y, const std::byte* saved,
                             const X* dL_dy, int64_t n, X* dL_dx, float* dL_dparams, std::byte* scratch) {
  const MlpBlocks size(shape);
  if (n == 0) {
    if (dL_dparams) fill_zero(dL_dparams, shape.n_params());
    return;
  }
  const BackwardScratch places(size, n);
  auto* matrices = reinterpret_cast<Words*>(scratch + places.matrices);
  auto* slots = dL_dparams ? reinterpret_cast<float*>(scratch + places.slots) : nullptr;
  auto* largest = reinterpret_cast<uint32_t*>(scratch + places.largest);
  for_each("fused_mlp_pack", int64_t(size.n_matrix_blocks()) * kLanesOfWarp * 4,
           PackMlp{shape, size, params, nullptr, matrices->w, nullptr});
  const OutputGradient<X> gradient{{dL_dy, n, int(shape.n_output_dims)}, y, shape.output_activation, 1.0f};
  fill_zero(largest, 1);
  launch("fused_mlp_half_largest_gradient", largest_gradient_kernel<X>,
         Grid{std::min<int64_t>(blocks_for(n * shape.n_output_dims, 8 * kBlock), 4 * n_multiprocessors())}, gradient,
         n * shape.n_output_dims, largest);
  const int64_t n_blocks = backward_blocks(size, n);
  for (const LayerRange range : backward_launches(size, dL_dparams != nullptr)) {
    const BackwardMemory memory(size, range.lowest, range.highest, dL_dparams != nullptr);
    const BackwardArguments<X> args{
        {size, shape.activation, matrices + int64_t(size.first_matrix(range.lowest)) * kLanesOfWarp, nullptr,
         range.lowest},
        {{x, n, int(shape.n_input_dims)}, float(shape.input_padding)},
        gradient,
        {dL_dx, n, int(shape.n_input_dims)},
        saved_of(size, n, saved),
        largest,
        reinterpret_cast<Words*>(scratch + places.border),
        slots,
        range.lowest,
        range.highest,
        tiles_of(n)};
    with_width(size, [&](auto T) {
      launch("fused_mlp_half_backward", mlp_backward_kernel<T, X>, Grid{n_blocks, kThreads, memory.bytes()}, args,
             memory);
    });
  }
  if (!dL_dparams) return;
  const int n_values = size.n_gradient_blocks() * kBlockValues;
  launch("fused_mlp_half_sum", sum_slots_kernel, Grid{n_values / kLanesOfWarp, kLanesOfWarp * kSlotGroups}, slots,
         static_cast<int>(n_blocks), n_values, GradientPlace{shape, size}, largest, dL_dparams);
}

#define NF_INSTANTIATE(X)                                                                                              \
  template void fused_mlp_half_forward(const MlpShape&, const X*, const float*, int64_t, X*, std::byte*, std::byte*);  \
  template void fused_mlp_half_backward(const MlpShape&, const X*, const float*, const X*, const std::byte*, const X*, \
                                        int64_t, X*, float*, std::byte*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(half)

}  // namespace nf::cuda
