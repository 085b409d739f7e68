// SPDX-License-Identifier: Apache-2.0
// The grid encoding forward, and the gradient of its tables by atomic additions in float.
#include "cuda/grid_by_warp.h"
#include "cuda/hash_grid_kernels.h"

namespace nf::cuda {
namespace {

template <typename T, typename P, int D, int F>
__global__ void __launch_bounds__(kBlock)
    forward_kernel(const __grid_constant__ LevelBatch batch, const GridSamples<T> samples, const P* params, T* y) {
  constexpr int kLevels = kSectorLevels<T, F>;
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  const bool is_sample = i < samples.n;  // all lanes come to the levels
  const int first = blockIdx.y * kLevels;
  T x[D] = {}, features[kLevels * F];
  if (is_sample) samples.position(i, x);
  NF_UNROLL for (int g = 0; g < kLevels; ++g) {
    const int l = first + g;
    T* out = features + g * F;
    NF_UNROLL for (int f = 0; f < F; ++f) out[f] = 0;
    const bool is_seen = is_sample && l < batch.n && !samples.hides(batch, l, i);
    if (!__any_sync(kWholeWarp, is_seen)) continue;
    grid_forward_by_warp<T, D, F>(batch.levels[l], samples.interpolation, params + batch.levels[l].offset * F, x, out);
    if (!is_seen) NF_UNROLL for (int f = 0; f < F; ++f) out[f] = 0;
  }
  if (!is_sample) return;
  T* row = y + i * batch.n_levels * F + (batch.first + first) * F;
  if (first + kLevels <= batch.n && batch.n_levels % kLevels == 0) {
    store_values<kLevels * F>(row, features);
    return;
  }
  NF_UNROLL for (int g = 0; g < kLevels; ++g) if (first + g < batch.n) NF_UNROLL for (int f = 0; f < F; ++f)
      row[g * F + f] = features[g * F + f];
}

// Adds to the table of one level what the samples of a warp give it, all of whose lanes come here; lanes that are not
// `used` add nothing. What is waited for are the additions in the second-level cache, and shuffles are cheap, so there
// are fewer requests for the same sums:
// - Samples lie along rays, so neighbours often share a cell of a coarse level and would add to the same entries one
//   after another. Such runs of lanes are summed in registers, and their first lane adds for all.
// - Corners that are neighbours on the first axis mostly lie in the same 128 bytes, hashed or not, as the first factor
//   of the hash is 1. Two lanes exchange half of theirs, so that one instruction adds both corners of a lane: a request
//   to the cache is what an instruction wants of 128 bytes.
template <typename T, typename G, int D, int F, typename Add>
NF_DEVICE void add_to_table(const GridLevel& level, const GridCell<T, D>& cell, const T (&dL_dfeatures)[F], bool used,
                            G* dL_dparams, const Add& add) {
  const int lane = lane_index();
  const unsigned used_lanes = __ballot_sync(kWholeWarp, used);
  if (used_lanes == 0) return;
  bool continues = (used_lanes & used_lanes << 1) >> lane & 1;
  NF_UNROLL for (int d = 0; d < D; ++d) {
    const uint32_t before = __shfl_up_sync(kWholeWarp, cell.products[d], 1);
    continues &= before == cell.products[d];  // cells of equal products have equal corners
  }
  const LaneRuns runs(continues);
  const unsigned adding_lanes = __ballot_sync(kWholeWarp, used && !continues);
  constexpr int kCorners = nf::min(1 << D, nf::max<int>(2, 32 / (F * sizeof(G))));  // at a time: sums in 8 registers
  NF_ROLL for (int first = 0; first < cell.n_corners; first += kCorners) {
    G sums[kCorners][F];
    NF_UNROLL for (int c = 0; c < kCorners; ++c) {
      const T w = cell.weight(first + c);
      NF_UNROLL for (int f = 0; f < F; ++f) sums[c][f] = add.term(w * dL_dfeatures[f]);
    }
    runs.template sum<kCorners * F>(sums[0]);
    const auto add_at = [&](uint32_t index, const G(&values)[F]) {
      add(dL_dparams + (level.offset + index) * F, values);
    };
    if (cell.n_corners == 1) {
      if (adding_lanes >> lane & 1) add_at(cell.index(level, first), sums[0]);
      continue;
    }
    NF_UNROLL for (int c = 0; c < kCorners; c += 2) {
      uint32_t of_even = cell.index(level, first + c), of_odd = cell.index(level, first + c + 1);
      transpose_in_pairs(of_even, of_odd);
      NF_UNROLL for (int f = 0; f < F; ++f) transpose_in_pairs(sums[c][f], sums[c + 1][f]);
      if (adding_lanes >> (lane & ~1) & 1) add_at(of_even, sums[c]);
      if (adding_lanes >> (lane | 1) & 1) add_at(of_odd, sums[c + 1]);
    }
  }
}

// G: float, double, or 64-bit integers. add.term(value) is what is summed, add(entry, sums) adds the sums.
template <typename T, typename G, int D, int F, typename Add>
__global__ void __launch_bounds__(kBlock)
    backward_kernel(const __grid_constant__ LevelBatch batch, const GridSamples<T> samples, const T* dL_dy,
                    G* dL_dparams, const Add add) {
  constexpr int kLevels = kSectorLevels<T, F>;
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  const int first = blockIdx.y * kLevels;
  T x[D] = {};
  if (i < samples.n) samples.position(i, x);
  NF_ROLL for (int l = first; l < min(first + kLevels, batch.n); ++l) {
    T dL_dfeatures[F] = {};
    if (i < samples.n && !samples.hides(batch, l, i))
      load_values<F>(dL_dy + (i * batch.n_levels + batch.first + l) * F, dL_dfeatures);
    bool used = false;  // samples without influence, such as those of a fixed capacity that are not used
    NF_UNROLL for (int f = 0; f < F; ++f) used |= dL_dfeatures[f] != 0;
    add_to_table(batch.levels[l], GridCell<T, D>(batch.levels[l], samples.interpolation, x), dL_dfeatures, used,
                 dL_dparams, add);
  }
}

template <typename T, int F>
Grid grid_of(int64_t n, const LevelBatch& batch) {
  return {blocks_for(n), kBlock, 0, static_cast<int>(blocks_for(batch.n, kSectorLevels<T, F>))};
}

template <typename T, typename G, typename Add>
void scatter(const GridConfig& config, const GridSamples<T>& samples, const T* dL_dy, G* dL_dparams, const Add& add) {
  dispatch_grid(config, [&](auto D, auto F) {
    for_batches(config, [&](const LevelBatch& batch) {
      launch("hash_grid_backward_params", backward_kernel<T, G, D, F, Add>, grid_of<T, F>(samples.n, batch), batch,
             samples, dL_dy, dL_dparams, add);
    });
  });
}

int64_t n_params_of(const GridConfig& config) {
  const GridLevel last = hash_grid_levels(config).back();
  return (last.offset + last.n_entries) * config.n_features_per_level;
}

// ---- the same in exact sums ----

// State on the device: bits of the largest |dL_dy|, or of infinity or a NaN where a value is not finite.

// Unit of the sums as a power of two: n sums of values up to 2^(exponent + 1) stay below 2^62.
NF_DEVICE int unit_exponent(uint32_t largest, int log2_n) {
  return 62 - log2_n - (static_cast<int>(largest >> 23) - 126);
}

NF_DEVICE double power_of_two(int exponent) { return __hiloint2double((exponent + 1023) << 20, 0); }

// Values are finite: positions and gradients were looked through.
struct AddExactly {
  const uint32_t* largest;
  int log2_n;
  NF_DEVICE long long term(float value) const {
    return __double2ll_rn(value * power_of_two(unit_exponent(*largest, log2_n)));
  }
  template <int F>
  NF_DEVICE void operator()(long long* entry, const long long (&sums)[F]) const {
    NF_UNROLL for (int f = 0; f < F; ++f)
        atomicAdd(reinterpret_cast<unsigned long long*>(entry + f), static_cast<unsigned long long>(sums[f]));
  }
};

// Bits of the largest magnitude; of finite values 0 where only a value that is not finite matters.
template <bool kOnlyNotFinite>
__global__ void __launch_bounds__(kBlock) largest_kernel(const float* values, int64_t n, uint32_t* largest) {
  uint32_t bits = 0;
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < n; i += int64_t(gridDim.x) * kBlock)
    bits = max(bits, float_bits(values[i]) & 0x7fffffffu);
  if (kOnlyNotFinite && bits < 0x7f800000u) bits = 0;
  bits = __reduce_max_sync(~0u, bits);
  if (threadIdx.x % 32 == 0) atomicMax(largest, bits);
}

struct ToFloat {
  const long long* sums;
  const uint32_t* largest;
  int log2_n;
  float* values;
  NF_DEVICE void operator()(int64_t i) const {
    values[i] = *largest >= 0x7f800000u
                    ? bits_float(0x7fc00000u)
                    : static_cast<float>(static_cast<double>(sums[i]) * power_of_two(-unit_exponent(*largest, log2_n)));
  }
};

}  // namespace

template <typename T, typename P>
void hash_grid_forward(const GridConfig& config, const T* x, const P* params, MaxLevel max_level, T* y, int64_t n) {
  dispatch_grid(config, [&](auto D, auto F) {
    for_batches(config, [&](const LevelBatch& batch) {
      launch("hash_grid_forward", forward_kernel<T, P, D, F>, grid_of<T, F>(n, batch), batch,
             GridSamples<T>{config.interpolation, x, max_level, n}, params, y);
    });
  });
}

template <typename T>
void hash_grid_backward_params(const GridConfig& config, const T* x, const T* dL_dy, MaxLevel max_level, T* dL_dparams,
                               int64_t n) {
  fill_zero(dL_dparams, n_params_of(config));
  scatter(config, GridSamples<T>{config.interpolation, x, max_level, n}, dL_dy, dL_dparams, AddAtomically());
}

void hash_grid_backward_params_exact(const GridConfig& config, const float* x, const float* dL_dy, MaxLevel max_level,
                                     float* dL_dparams, int64_t* scratch, int64_t n) {
  const int64_t n_params = n_params_of(config), n_values = n * config.n_levels * config.n_features_per_level;
  fill_zero(scratch, n_params + 1);
  auto* sums = reinterpret_cast<long long*>(scratch);
  auto* largest = reinterpret_cast<uint32_t*>(scratch + n_params);
  int log2_n = 0;
  while (int64_t(1) << log2_n < n) ++log2_n;
  const auto blocks = [](int64_t n) { return Grid{min<int64_t>(blocks_for(n), 4 * n_multiprocessors())}; };
  launch("hash_grid_largest_gradient", largest_kernel<false>, blocks(n_values), dL_dy, n_values, largest);
  launch("hash_grid_check_positions", largest_kernel<true>, blocks(n * config.n_dims), x, n * config.n_dims, largest);
  scatter(config, GridSamples<float>{config.interpolation, x, max_level, n}, dL_dy, sums, AddExactly{largest, log2_n});
  for_each("hash_grid_to_float", n_params, ToFloat{sums, largest, log2_n, dL_dparams});
}

#define NF_INSTANTIATE(T, P) \
  template void hash_grid_forward(const GridConfig&, const T*, const P*, MaxLevel, T*, int64_t);
NF_INSTANTIATE(float, float)
NF_INSTANTIATE(float, half)
NF_INSTANTIATE(double, double)
template void hash_grid_backward_params(const GridConfig&, const float*, const float*, MaxLevel, float*, int64_t);
template void hash_grid_backward_params(const GridConfig&, const double*, const double*, MaxLevel, double*, int64_t);

}  // namespace nf::cuda
