// SPDX-License-Identifier: Apache-2.0
#include "ops/depth_fusion.h"

#include <algorithm>

#include "core/parallel.h"

namespace nf::cpu {
namespace {

// A view is asked about all points of a tile, which see the same parts of its picture, before the next one is.
template <typename Asker>
void ask_about_tiles(const Asker& asker, int64_t n) {
  constexpr int kTile = 256, kVectors = kTile / kLanes;
  parallel_ranges(n, kTile, [&](int64_t begin, int64_t end) {
    float columns[3][kTile];
    for (auto& column : columns) std::fill_n(column, kTile, NAN);  // of no point: in no picture
    for (int64_t i = begin; i < end; ++i)
      for (int axis = 0; axis < 3; ++axis) columns[axis][i - begin] = asker.points[3 * i + axis];
    typename Asker::template Heard<vf> heard[kVectors];
    const int used = static_cast<int>((end - begin + kLanes - 1) / kLanes);
    for (int64_t view = 0; view < asker.pictures.n_views; ++view)
      for (int v = 0; v < used; ++v) {
        if (heard[v].is_enough()) continue;
        const vf point[3] = {load(columns[0] + v * kLanes), load(columns[1] + v * kLanes),
                             load(columns[2] + v * kLanes)};
        asker.ask(view, point, heard[v]);
      }
    for (int64_t i = begin; i < end; i += kLanes)
      asker.answer(heard[(i - begin) / kLanes], i, static_cast<int>(min<int64_t>(kLanes, end - i)));
  });
}

}  // namespace

void fuse_depths(const FuseDepths& fuse, int64_t n) { ask_about_tiles(fuse, n); }

void seen_in_depths(const SeenInDepths& seen, int64_t n) { ask_about_tiles(seen, n); }

}  // namespace nf::cpu
