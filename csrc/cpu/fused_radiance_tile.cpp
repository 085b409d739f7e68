// SPDX-License-Identifier: Apache-2.0
#include "cpu/fused_radiance_tile.h"

#include <algorithm>

#include "cpu/hash_grid.h"
#include "cpu/hash_grid_tile.h"
#include "math/composite.h"
#include "math/spherical_harmonics.h"

namespace nf::cpu {

PackedField::PackedField(const FusedField& f)
    : field(f),
      levels(hash_grid_levels(f.grid)),
      density(f.density, padded(f.density.n_inputs), f.bf16_products),
      color(f.color, f.density.n_outputs, f.bf16_products) {}

bool fused_bf16_supported(const FusedNet& density, const FusedNet& color) {
  const auto fits = [](const FusedNet& net) { return net.activation == Activation::kReLU && net.width % 32 == 0; };
  return bf16_products() && fits(density) && fits(color);
}

namespace {

template <int kDegree>
void harmonics_of(const float* directions, int64_t n, float* rows, int64_t width) {
  for (int64_t i = 0; i < n; ++i, directions += 3, rows += width) {
    SphericalHarmonicsRow<float> row{rows};
    spherical_harmonics<kDegree>(directions[0], directions[1], directions[2], row);
  }
}

template <typename P, typename A>
void encode_rows(const PackedField& field, const P* table, const float* const* x, int64_t n, A* encoding) {
  const GridConfig& grid = field.field.grid;
  dispatch_features(grid, [&](auto F) {
    encode_levels<P, 3, F.value>(field.levels.data(), grid.n_levels, grid.interpolation, table, x, n, encoding, F,
                                 field.encoding_width());
  });
}

}  // namespace

template <typename A>
void encode_rows(const PackedField& field, const float* const* x, int64_t n, A* encoding) {
  if (field.field.table_is_half)
    encode_rows(field, static_cast<const half*>(field.field.table), x, n, encoding);
  else
    encode_rows(field, static_cast<const float*>(field.field.table), x, n, encoding);
}

void direction_rows(const PackedField& field, const float* directions, int64_t n, float* harmonics) {
  const int64_t width = field.direction_width();
  switch (field.field.sh_degree) {
    case 1:
      return harmonics_of<1>(directions, n, harmonics, width);
    case 2:
      return harmonics_of<2>(directions, n, harmonics, width);
    case 3:
      return harmonics_of<3>(directions, n, harmonics, width);
    case 4:
      return harmonics_of<4>(directions, n, harmonics, width);
    case 5:
      return harmonics_of<5>(directions, n, harmonics, width);
    case 6:
      return harmonics_of<6>(directions, n, harmonics, width);
    case 7:
      return harmonics_of<7>(directions, n, harmonics, width);
    case 8:
      return harmonics_of<8>(directions, n, harmonics, width);
  }
}

template <typename A>
void fill_padding(const PackedField& field, A* encoding, int64_t n) {
  const float value = field.field.density.input_padding;
  for (int64_t i = 0; i < n * field.encoding_width(); i += kLanes) store(encoding + i, splat(value));
}

void densities(const PackedField& field, const float* const* x, int64_t n, float* values) {
  const SurfaceDensity& surface = field.field.surface;
  if (surface.is_surface()) {
    for (int64_t i = 0; i < n; ++i) values[i] = surface.density(values[i], x[0][i], x[1][i], x[2][i]);
  } else {
    for (int64_t i = 0; i < n; i += kLanes) store(values + i, exponential(load(values + i)));
  }
}

template <typename A>
RayTile<A>::RayTile(const PackedField& field, const FusedMarch& march, int64_t rows, bool keep_hidden, Arena& arena)
    : capacity(rows), field_(field), march_(march), keep_hidden_(keep_hidden) {
  march_states = arena.take<RayMarch>(kMaxChunkRays);
  trans = arena.take<float>(kMaxChunkRays);
  count = arena.take<int32_t>(kMaxChunkRays);
  live = arena.take<int32_t>(kMaxChunkRays);
  round_begin_ = arena.take<int32_t>(kMaxChunkRays + 1);
  // evaluate() works on whole vectors
  for (float*& axis : x) axis = arena.take<float>(rows);
  t_starts = arena.take<float>(rows + kLanes);
  t_ends = arena.take<float>(rows + kLanes);
  alpha = arena.take<float>(rows + kLanes);
  ray = arena.take<int32_t>(rows);
  ordinal = arena.take<int32_t>(rows);
  dropped_ = arena.take<int32_t>(rows);
  encoding = arena.take<A>(rows * field.encoding_width());
  const int64_t hidden_rows = keep_hidden ? rows : kBlockRows;
  hidden = NetRows<A>::allocate(arena, field.density, hidden_rows);
  geometry = arena.take<float>(rows * field.geometry_width());
  if (encoding) fill_padding(field, encoding, rows);
}

template <typename A>
void RayTile<A>::begin(const FusedRays& rays, int64_t first, int n) {
  n_rays = n;
  n_live = 0;
  n_rows = 0;
  for (int r = 0; r < n; ++r) {
    const int64_t i = first + r;
    const float jitter = march_.jitter ? march_jitter(march_.jitter_stream, i) : 0.0f;
    march_states[r] = begin_march(march_.grid, march_.lattice, rays.origins + 3 * i, rays.directions + 3 * i,
                                  march_.near, march_.far, jitter);
    trans[r] = 1.0f;
    count[r] = 0;
    if (march_states[r].t_far > 0) live[n_live++] = r;
  }
  enter_rays(march_.grid, march_.lattice, march_states, n);
}

template <typename A>
void RayTile<A>::take_samples(int most) {
  const float* low = field_.field.box_low;
  const float* scale = field_.field.box_scale;
  int64_t row = n_rows;
  for (int i = 0; i < n_live; ++i) {
    const int32_t r = live[i];
    round_begin_[i] = static_cast<int32_t>(row);
    const int wanted = std::min(most, march_.max_samples - count[r]);
    RayMarch& state = march_states[r];
    const int found = next_samples(march_.grid, march_.lattice, state, wanted, t_starts + row, t_ends + row);
    for (int s = 0; s < found; ++s, ++row) {
      ray[row] = r;
      ordinal[row] = count[r] + s;
      for (int axis = 0; axis < 3; ++axis) {
        // Rounded as o + t * d in two operations: what torch does on the composed path.
        const float position = state.origin[axis] + t_starts[row] * state.direction[axis];
        x[axis][row] = (position - low[axis]) * scale[axis];
      }
    }
    if (found < most) state.t_far = -INFINITY;  // ended: leaves the live set after this round
  }
  round_begin_[n_live] = static_cast<int32_t>(row);
  n_rows = row;
}

template <typename A>
void RayTile<A>::evaluate(int64_t begin) {
  const float* const axes[3] = {x[0] + begin, x[1] + begin, x[2] + begin};
  const int64_t width = field_.encoding_width(), geometry_width = field_.geometry_width();
  encode_rows(field_, axes, n_rows - begin, encoding + begin * width);
  for (int64_t row = begin; row < n_rows; row += kBlockRows) {
    const int64_t n = std::min<int64_t>(kBlockRows, n_rows - row);
    const NetRows<A> rows = hidden.at(keep_hidden_ ? row : 0, field_.density);
    hidden_forward(field_.density, encoding + row * width, width, {}, rows, n);
    output_forward(field_.density, rows, geometry + row * geometry_width, geometry_width, n);
  }
  for (int64_t row = begin; row < n_rows; ++row) alpha[row] = geometry[row * geometry_width];
  densities(field_, axes, n_rows - begin, alpha + begin);
  for (int64_t row = begin; row < n_rows; row += kLanes) {
    const vf dt = load(t_ends + row) - load(t_starts + row);
    store(alpha + row, opacity(load(alpha + row) * dt));
  }
  n_evaluated += n_rows - begin;
}

template <typename A>
void RayTile<A>::advance(int most) {
  const int64_t begin = n_rows;
  take_samples(most);
  evaluate(begin);
}

template <typename A>
void RayTile<A>::truncate(int n) {
  int still_live = 0, n_dropped = 0;
  for (int i = 0; i < n_live; ++i)
    if (live[i] < n) live[still_live++] = live[i];
  n_live = still_live;
  for (int64_t row = 0; row < n_rows; ++row)
    if (ray[row] >= n) dropped_[n_dropped++] = static_cast<int32_t>(row);
  n_rays = n;
  drop_rows(n_dropped);
}

// Removes the rows listed in dropped_ (ascending): rows from the end take their places.
template <typename A>
void RayTile<A>::drop_rows(int64_t n_dropped) {
  int64_t last_dropped = n_dropped - 1;
  int64_t end = n_rows;
  for (int64_t i = 0; i <= last_dropped; ++i) {
    while (last_dropped >= i && dropped_[last_dropped] == end - 1) --end, --last_dropped;
    if (last_dropped < i) break;
    move_row(--end, dropped_[i]);
  }
  n_rows -= n_dropped;
}

template <typename A>
void RayTile<A>::move_row(int64_t from, int64_t to) {
  for (float* axis : x) axis[to] = axis[from];
  for (float* values : {t_starts, t_ends, alpha}) values[to] = values[from];
  for (int32_t* values : {ray, ordinal}) values[to] = values[from];
  const auto move = [&](auto* rows, int64_t width) { std::copy_n(rows + from * width, width, rows + to * width); };
  move(encoding, field_.encoding_width());
  move(geometry, field_.geometry_width());
  if (!keep_hidden_) return;
  for (int l = 0; l < field_.density.n_hidden(); ++l) {
    move(hidden.hidden[l], field_.density.width());
    if (hidden.pre[l]) move(hidden.pre[l], field_.density.width());
  }
}

template class RayTile<float>;
template void encode_rows(const PackedField&, const float* const*, int64_t, float*);
template void fill_padding(const PackedField&, float*, int64_t);
#if defined(__AVX512F__)
template class RayTile<bf16>;
template void encode_rows(const PackedField&, const float* const*, int64_t, bf16*);
template void fill_padding(const PackedField&, bf16*, int64_t);
#endif

}  // namespace nf::cpu
