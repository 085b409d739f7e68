// SPDX-License-Identifier: Apache-2.0
// What one thread holds while it trains on or renders a chunk of rays: the samples of those rays (rows, one array per
// quantity) and their activations. Rays advance in rounds of a few samples each, so that a ray stops soon after it
// became opaque and what lies behind is never evaluated; rows keep the order of rounds, except that samples found to
// lie behind a surface are overwritten by rows from the end.
#pragma once

#include <type_traits>

#include "cpu/fused_radiance_layers.h"
#include "cpu/march_ray.h"

namespace nf::cpu {

constexpr int kMaxChunkRays = 1024;

// A field made ready for tiles: packed networks and row widths.
struct PackedField {
  explicit PackedField(const FusedField& field);
  FusedField field;
  std::vector<GridLevel> levels;
  PackedNet density, color;
  int encoding_width() const { return density.layers()[0].n_in; }  // both padded
  int geometry_width() const { return density.layers().back().n_out; }
  int direction_width() const { return color.side().n_in; }
};

// Calls body(F) with the number of features per level as a constant.
template <typename Body>
void dispatch_features(const GridConfig& grid, const Body& body) {
  switch (grid.n_features_per_level) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    case 4:
      return body(std::integral_constant<int, 4>());
    case 8:
      return body(std::integral_constant<int, 8>());
  }
}

// Calls run(A()) with the type in which activations are stored.
template <typename Run>
auto with_activations(const FusedField& field, const Run& run) {
  if constexpr (kBf16Products)
    if (field.bf16_products) return run(bf16());
  return run(0.0f);
}

// Features of n positions (one array per axis, unit cube of the field) into rows of encoding_width, whose padding
// stays.
template <typename A>
void encode_rows(const PackedField& field, const float* const* x, int64_t n, A* encoding);
// Puts the padding value into n rows [n, encoding_width].
template <typename A>
void fill_padding(const PackedField& field, A* encoding, int64_t n);
// sigma of n positions from the first output of the density network, in place; whole vectors of values are touched.
void densities(const PackedField& field, const float* const* x, int64_t n, float* values);
// Spherical harmonics of n rays [n, direction_width], whose padding stays.
void direction_rows(const PackedField& field, const float* directions, int64_t n, float* harmonics);

// A: how activations are stored, float or bf16.
template <typename A>
class RayTile {
 public:
  // keep_hidden: the hidden layers of the density net are stored for all rows, as the backward pass needs.
  RayTile(const PackedField& field, const FusedMarch& march, int64_t capacity, bool keep_hidden, Arena& arena);

  // Starts rays [first, first + n), n <= kMaxChunkRays, without samples.
  void begin(const FusedRays& rays, int64_t first, int n);
  // First half of a round: every live ray takes its next samples, at most `most`; their opacity is evaluated. Needs
  // n_live * most rows of space.
  void advance(int most);
  // Second half: walks the new samples of each ray front to back until the ray is opaque. keep(row, weight, trans
  // behind it) says whether a sample stays; the others and those behind a surface are dropped, rays that ended leave
  // the live set.
  template <typename Keep>
  void retire(const Keep& keep);
  // Forgets rays from `n` on, and their samples.
  void truncate(int n);

  // rays of the chunk
  int n_rays = 0, n_live = 0;
  RayMarch* march_states;
  float* trans;
  int32_t *count, *live;
  // their samples
  int64_t capacity, n_rows = 0, n_evaluated = 0;  // n_rows may be reset to 0 between rounds
  float* x[3];                                    // unit cube of the field
  float *t_starts, *t_ends, *alpha;               // [capacity]
  int32_t *ray, *ordinal;                         // ray within the chunk, number of the sample on it
  A* encoding;                                    // [capacity, encoding_width]
  NetRows<A> hidden;                              // of the density net
  float* geometry;  // [capacity, geometry_width]; column 0 is ln(sigma), or what gives the distance

 private:
  void take_samples(int most);
  void evaluate(int64_t begin);
  void drop_rows(int64_t n_dropped);
  void move_row(int64_t from, int64_t to);

  const PackedField& field_;
  const FusedMarch& march_;
  bool keep_hidden_;
  int32_t *round_begin_, *dropped_;  // first new row of each live ray; rows to be dropped, ascending
};

template <typename A>
template <typename Keep>
void RayTile<A>::retire(const Keep& keep) {
  int n_dropped = 0, still_live = 0;
  for (int i = 0; i < n_live; ++i) {
    const int32_t r = live[i], end = round_begin_[i + 1];
    int32_t row = round_begin_[i];
    float t = trans[r];
    while (row < end && t >= march_.stop_trans) {
      const float weight = t * alpha[row];
      t *= 1.0f - alpha[row];
      ++count[r];
      if (!keep(row, weight, t)) dropped_[n_dropped++] = row;
      ++row;
    }
    trans[r] = t;
    for (; row < end; ++row) dropped_[n_dropped++] = row;
    if (t >= march_.stop_trans && march_states[r].t_far > 0 && count[r] < march_.max_samples) live[still_live++] = r;
  }
  n_live = still_live;
  drop_rows(n_dropped);
}

}  // namespace nf::cpu
