// SPDX-License-Identifier: Apache-2.0
// The training step on all threads: slots of rays, their sums added in order, then the table level by level.
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "cpu/fused_radiance_train.h"
#include "cpu/hash_grid.h"
#include "cpu/hash_grid_scatter.h"
#include "cpu/table_adam.h"
#include "cpu/tile_memory.h"

namespace nf::cpu {
namespace {

struct SlotRange {
  int64_t begin, end;
};

// Rays of a slot's pixels.
SlotRange slot_range(int64_t slot, int64_t n_pixels, int64_t rays_per_pixel) {
  return {n_pixels * slot / kFusedSlots * rays_per_pixel, n_pixels * (slot + 1) / kFusedSlots * rays_per_pixel};
}

// Sum over slots of every gradient, in the order of slots; slot 0's block receives it. Returns 0 when all are finite.
float add_slots(float* blocks, int64_t size) {
  std::vector<float> not_finite(1 + size / 1024, 0.0f);
  parallel_ranges(size, 1024, [&](int64_t begin, int64_t end) {
    float check = 0;
    for (int slot = 1; slot < kFusedSlots; ++slot)
      for (int64_t i = begin; i < end; ++i) blocks[i] += blocks[slot * size + i];
    for (int64_t i = begin; i < end; ++i) check += blocks[i] * 0.0f;
    not_finite[begin / 1024] = check;
  });
  float check = 0;
  for (const float c : not_finite) check += c;
  return check;
}

// Calls body(slot's first row, its number of rows) for all slots.
template <typename Body>
void for_slots(const FusedSamples& samples, const Body& body) {
  const int64_t rows = samples.capacity / kFusedSlots;
  for (int slot = 0; slot < kFusedSlots; ++slot)
    if (samples.slot_counts[slot] > 0) body(slot * rows, samples.slot_counts[slot]);
}

// Adds the gradients of all samples to one level's table `grad`.
template <int F>
void scatter_slots(const GridConfig& grid, const GridLevel& level, int level_idx, const FusedSamples& samples,
                   float* grad) {
  for_slots(samples, [&](int64_t first, int64_t n) {
    const float* x[3];
    for (int axis = 0; axis < 3; ++axis) x[axis] = samples.positions + axis * samples.capacity + first;
    scatter_level<3, F>(level, grid.interpolation, x, n,
                        samples.dL_dencoding + (level_idx * samples.capacity + first) * F, F, grad);
  });
}

}  // namespace

int64_t fused_gradient_size(const FusedField& field) {
  const PackedField packed(field);
  return packed.density.gradient_size() + packed.color.gradient_size();
}

int64_t fused_scratch_bytes(const FusedField& field, const FusedMarch& march) {
  const PackedField packed(field);
  return with_activations(field, [&](auto a) {
    Arena counter(nullptr);
    const TrainTile<decltype(a)> tile(packed, march, counter);
    return counter.used();
  });
}

FusedReport fused_gradients(const FusedField& field, const FusedMarch& march, const FusedRays& rays,
                            const FusedTargets& targets, const FusedLoss& loss, float samples_per_ray,
                            const FusedSamples& samples, float* dL_ddensity, float* dL_dcolor,
                            const FusedRayOutputs& outputs, float* slot_gradients, std::byte* scratch,
                            int64_t scratch_bytes) {
  const PackedField packed(field);
  const int64_t gradient_size = packed.density.gradient_size() + packed.color.gradient_size();
  const int64_t rows_per_slot = samples.capacity / kFusedSlots;
  SlotSums slots[kFusedSlots];
  with_activations(field, [&](auto a) {
    parallel_tasks(kFusedSlots, [&](int64_t slot, int thread_idx) {
      Arena arena(scratch + thread_idx * scratch_bytes);
      TrainTile<decltype(a)> tile(packed, march, arena);
      float* gradients = slot_gradients + slot * gradient_size;
      std::fill_n(gradients, gradient_size, 0.0f);
      const SlotRange range = slot_range(slot, rays.n / targets.n_rays, targets.n_rays);
      samples.slot_counts[slot] = tile.run(rays, range.begin, range.end, targets, loss, samples_per_ray, samples,
                                           slot * rows_per_slot, rows_per_slot, outputs, gradients, slots[slot]);
      finish_streams();  // gradients of the encoding, which other threads read next
    });
  });
  float not_finite = add_slots(slot_gradients, gradient_size);
  packed.density.unpack_gradient(slot_gradients, dL_ddensity);
  packed.color.unpack_gradient(slot_gradients + packed.density.gradient_size(), dL_dcolor);
  FusedReport report{};
  for (const SlotSums& slot : slots) {
    report.loss += slot.loss;
    report.squared_error += slot.squared_error;
    report.n_rays_used += slot.n_rays_used;
    report.n_samples += slot.n_samples;
    report.n_evaluated += slot.n_evaluated;
    not_finite += slot.not_finite;
  }
  report.is_finite = not_finite == 0 && std::isfinite(report.loss);
  return report;
}

void fused_table_gradient(const GridConfig& grid, const FusedSamples& samples, float* dL_dtable) {
  const std::vector<GridLevel> levels = hash_grid_levels(grid);
  dispatch_features(grid, [&](auto F) {
    parallel_tasks(grid.n_levels, [&](int64_t task, int) {
      const int l = grid.n_levels - 1 - static_cast<int>(task);  // the costly fine levels first
      float* grad = dL_dtable + levels[l].offset * F;
      std::fill_n(grad, int64_t(levels[l].n_entries) * F, 0.0f);
      scatter_slots<F>(grid, levels[l], l, samples, grad);
    });
  });
}

void fused_table_adam(const GridConfig& grid, const FusedSamples& samples, const AdamConfig& adam, int64_t step,
                      const AdamArrays<float>& arrays, float* grad_scratch) {
  const std::vector<GridLevel> levels = hash_grid_levels(grid);
  AdamConfig config = adam;
  config.zero_grad = true;
  const AdamStep<float> run(config, step, arrays.steps != nullptr);
  dispatch_features(grid, [&](auto F) {
    table_adam(levels, F, run, arrays, grad_scratch,
               [&](int l, float* grad) { scatter_slots<F>(grid, levels[l], l, samples, grad); });
  });
}

}  // namespace nf::cpu
