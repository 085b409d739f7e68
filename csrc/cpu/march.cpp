// SPDX-License-Identifier: Apache-2.0
#include "ops/march.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "cpu/march_ray.h"
#include "cpu/packed_output.h"

namespace nf::cpu {
namespace {

constexpr int64_t kRaysPerBlock = 256;
constexpr int kChunk = 64;  // samples taken from a ray at a time

// The samples of kRaysPerBlock consecutive rays, until their place in the output is known.
struct RayBlock {
  std::vector<float> t_starts, t_ends;
};

int64_t march_one(const OccupancyView& grid, const StepLattice& lattice, int32_t max_samples, RayMarch& ray,
                  RayBlock& block) {
  float starts[kChunk], ends[kChunk];
  int64_t count = 0;
  for (;;) {
    const int wanted = static_cast<int>(std::min<int64_t>(kChunk, max_samples - count));
    const int found = next_samples(grid, lattice, ray, wanted, starts, ends);
    block.t_starts.insert(block.t_starts.end(), starts, starts + found);
    block.t_ends.insert(block.t_ends.end(), ends, ends + found);
    count += found;
    if (found < kChunk) return count;
  }
}

}  // namespace

int64_t march_scratch_bytes(int64_t) { return 0; }

void march(const OccupancyView& grid, const StepLattice& lattice, const MarchSettings& settings, const float* origins,
           const float* directions, int64_t n_rays, const PackedOutput& out, bool is_padded, void*) {
  const int64_t n_blocks = (n_rays + kRaysPerBlock - 1) / kRaysPerBlock;
  std::vector<RayBlock> blocks(static_cast<size_t>(n_blocks));
  const auto block_end = [&](int64_t b) { return std::min(n_rays, (b + 1) * kRaysPerBlock); };
  parallel_tasks(n_blocks, [&](int64_t b, int) {
    for (int64_t i = b * kRaysPerBlock; i < block_end(b); ++i) {
      const float jitter = settings.jitter ? march_jitter(settings.stream, i) : 0.0f;
      RayMarch ray =
          begin_march(grid, lattice, origins + 3 * i, directions + 3 * i, settings.near, settings.far, jitter);
      out.packed_info[2 * i + 1] = march_one(grid, lattice, settings.max_samples, ray, blocks[b]);
    }
  });
  assign_places(n_rays, out);
  parallel_tasks(n_blocks, [&](int64_t b, int) {
    const int64_t first = out.packed_info[2 * b * kRaysPerBlock];
    int64_t n = 0;
    for (int64_t i = b * kRaysPerBlock; i < block_end(b); ++i) {
      const int64_t count = out.packed_info[2 * i + 1];
      std::fill_n(out.ray_indices + out.packed_info[2 * i], count, i);
      n += count;
    }
    std::copy_n(blocks[b].t_starts.begin(), n, out.t_starts + first);
    std::copy_n(blocks[b].t_ends.begin(), n, out.t_ends + first);
  });
  if (is_padded) clear_behind(out);
}

}  // namespace nf::cpu
