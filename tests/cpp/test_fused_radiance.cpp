// SPDX-License-Identifier: Apache-2.0
// The fused radiance kernels in arrays that end where their data ends: training with room for all samples and for few,
// the table's update, images and density; every storage of activations, on one thread and on three. That the numbers
// are right, tests/ops/test_fused_radiance.py checks against the composed path; here what two ways through the same
// code compute must agree.
#include <algorithm>
#include <cmath>

#include "check.h"
#include "core/parallel.h"
#include "cpu/fused_radiance.h"
#include "cpu/fused_radiance_net.h"
#include "cpu/hash_grid.h"
#include "grid.h"

using namespace nf;
using namespace nf::cpu;

struct Case {
  GridConfig grid;
  FusedNet density, color;  // without params
  int sh_degree;
  bool half_table;
  float weights;  // how large: sets the density of the volume
  int n_cascades;
};

struct Field {
  std::vector<float> table, density, color;
  std::vector<half> half_table;
  FusedField view{};

  Field(const Case& c, bool bf16_products) {
    const GridLevel last = hash_grid_levels(c.grid).back();
    table = test::uniform((last.offset + last.n_entries) * c.grid.n_features_per_level, 0, 1, 1);
    for (const float value : table) half_table.push_back(to_half(value));
    density = test::uniform(param_count(c.density), 0, c.weights, 2);
    color = test::uniform(param_count(c.color), -0.3f, 0.3f, 3);
    view.grid = c.grid;
    view.table = c.half_table ? static_cast<const void*>(half_table.data()) : table.data();
    view.table_is_half = c.half_table;
    const float side = static_cast<float>(1 << (c.n_cascades - 1));
    for (int axis = 0; axis < 3; ++axis) view.box_low[axis] = 0.5f - side / 2, view.box_scale[axis] = 1 / side;
    view.density = c.density;
    view.density.params = density.data();
    view.color = c.color;
    view.color.params = color.data();
    view.sh_degree = c.sh_degree;
    view.bf16_products = bf16_products;
  }
};

// Rays from a sphere around the unit cube to points in it; every eighth looks away.
struct Rays {
  std::vector<float> origins, directions, target, background, distances;  // known of two rays in three
  FusedRays view;

  explicit Rays(int64_t n) : origins(3 * n), directions(3 * n) {
    const std::vector<float> from = test::uniform(3 * n, -1, 1, 4), to = test::uniform(3 * n, 0.2f, 0.8f, 5);
    target = test::uniform(3 * n, 0, 1, 6);
    background = test::uniform(3 * n, 0, 1, 7);
    distances = test::uniform(2 * n, 0.5f, 2, 8);
    for (int64_t i = 0; i < n; ++i) distances[2 * i + 1] *= i % 3 ? 1e-3f : 0.0f;
    for (int64_t i = 0; i < n; ++i) {
      const auto normalize = [](float* v, float length) {
        const float norm = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
        for (int axis = 0; axis < 3; ++axis) v[axis] *= length / norm;
      };
      float *origin = &origins[3 * i], *direction = &directions[3 * i];
      std::copy_n(&from[3 * i], 3, origin);
      normalize(origin, 1.5f);
      for (int axis = 0; axis < 3; ++axis) {
        origin[axis] += 0.5f;
        direction[axis] = (to[3 * i + axis] - origin[axis]) * (i % 8 == 7 ? -1.0f : 1.0f);
      }
      normalize(direction, 1);
    }
    view = {origins.data(), directions.data(), n};
  }
};

static FusedMarch march_through(const test::Grid& grid, bool jitter) {
  FusedMarch march{};
  march.grid = grid.view;
  march.lattice = StepLattice::make(2, grid.view.n_cascades > 1 ? 1.0f / 256 : 0.0f);
  march.near = 0.05f;
  march.far = INFINITY;
  march.stop_trans = 1e-4f;
  march.max_samples = 300;
  march.jitter = jitter;
  march.jitter_stream = 11;
  return march;
}

struct Training {
  FusedReport report{};
  std::vector<float> rgb, depth, acc, positions, dL_dencoding, dL_ddensity, dL_dcolor, dL_dtable;
  std::vector<int64_t> slot_counts;
  std::vector<float> table;  // after an Adam step
  std::vector<half> copy;
};

static Training train(const Field& field, const FusedMarch& march, const Rays& rays, int64_t capacity, int n_threads,
                      int rays_per_pixel = 1) {
  set_num_threads(n_threads);
  const int64_t n = rays.view.n, n_features = field.view.grid.n_features_per_level;
  Training t;
  t.rgb.resize(3 * n);
  t.depth.resize(n);
  t.acc.resize(n);
  t.positions.resize(3 * capacity);
  t.dL_dencoding.resize(field.view.grid.n_levels * capacity * n_features);
  t.slot_counts.resize(kFusedSlots);
  t.dL_ddensity.resize(field.density.size());
  t.dL_dcolor.resize(field.color.size());
  const FusedSamples samples{t.positions.data(), t.dL_dencoding.data(), t.slot_counts.data(), capacity};
  std::vector<float> slot_gradients(kFusedSlots * fused_gradient_size(field.view), NAN);
  const int64_t bytes = fused_scratch_bytes(field.view, march);
  AlignedVector<std::byte> scratch(n_threads * bytes, std::byte{0xff});  // NaN as a float
  t.report = fused_gradients(
      field.view, march, rays.view, {rays.target.data(), rays.background.data(), rays.distances.data(), rays_per_pixel},
      {0.1f, 1.0f / (3 * n), 1e-3f, 1e-3f}, 1, samples, t.dL_ddensity.data(), t.dL_dcolor.data(),
      {t.rgb.data(), t.depth.data(), t.acc.data()}, slot_gradients.data(), scratch.data(), bytes);

  t.dL_dtable.resize(field.table.size());
  fused_table_gradient(field.view.grid, samples, t.dL_dtable.data());
  int64_t largest = 0;
  for (const GridLevel& level : hash_grid_levels(field.view.grid))
    largest = std::max<int64_t>(largest, level.n_entries);
  std::vector<float> exp_avg(field.table.size()), exp_avg_sq(field.table.size());
  std::vector<float> grad_scratch(n_threads * largest * n_features);
  std::vector<int16_t> steps(field.table.size());
  t.table = field.table;
  t.copy = field.half_table;
  AdamConfig adam{1e-2, 0.9, 0.99, 1e-15, 0, true, true};
  fused_table_adam(field.view.grid, samples, adam, 1,
                   {t.table.data(), nullptr, exp_avg.data(), exp_avg_sq.data(), steps.data(), t.copy.data()},
                   grad_scratch.data());
  for (const float g : grad_scratch) CHECK(g == 0);
  return t;
}

static bool same(const Training& a, const Training& b) {
  const auto same_bits = [](half x, half y) { return x.bits == y.bits; };
  return a.rgb == b.rgb && a.depth == b.depth && a.acc == b.acc && a.dL_ddensity == b.dL_ddensity &&
         a.dL_dcolor == b.dL_dcolor && a.dL_dtable == b.dL_dtable && a.slot_counts == b.slot_counts &&
         a.table == b.table && std::equal(a.copy.begin(), a.copy.end(), b.copy.begin(), same_bits) &&
         a.report.loss == b.report.loss && a.report.n_evaluated == b.report.n_evaluated;
}

static void test_training(const Case& c, bool bf16_products, const Rays& rays) {
  const Field field(c, bf16_products);
  const test::Grid grid = test::make_grid(c.n_cascades, 4, 1);
  const FusedMarch march = march_through(grid, true);
  const int64_t enough = kFusedSlots * (rays.view.n / kFusedSlots + 1) * march.max_samples;
  const Training whole = train(field, march, rays, enough, 1);
  CHECK(whole.report.is_finite && whole.report.n_rays_used == rays.view.n && whole.report.n_samples > rays.view.n);
  CHECK(same(whole, train(field, march, rays, enough, 3)));
  int64_t n_samples = 0;
  for (const int64_t count : whole.slot_counts) n_samples += count;
  CHECK(n_samples == whole.report.n_samples);
  // rows behind surfaces were dropped, or those of rays that did not fit into the tile
  CHECK(whole.report.n_evaluated > n_samples);
  for (size_t i = 0; i < field.table.size(); ++i) {
    CHECK((whole.table[i] != field.table[i]) == (whole.dL_dtable[i] != 0));
    CHECK(whole.dL_dtable[i] == 0 || whole.copy[i].bits == to_half(whole.table[i]).bits);
  }

  // Room for less than half of the samples, and not for a multiple of anything.
  const int64_t little = whole.report.n_samples * 2 / 5 / kFusedSlots * kFusedSlots + kFusedSlots / 2;
  const Training part = train(field, march, rays, little, 1);
  CHECK(part.report.is_finite && 0 < part.report.n_rays_used && part.report.n_rays_used < rays.view.n);
  for (const int64_t count : part.slot_counts) CHECK(count <= little / kFusedSlots);
  for (int64_t i = 0; i < rays.view.n; ++i) {  // a ray is used whole or not at all
    CHECK(part.acc[i] == whole.acc[i] || part.acc[i] == 0);
    CHECK(part.acc[i] > 0 || part.rgb[3 * i] == rays.background[3 * i]);
  }
  CHECK(same(part, train(field, march, rays, little, 3)));

  Rays even = rays;  // the same in fours; the last pixel's rays may be left over
  even.view.n = rays.view.n / 4 * 4;
  const Training fours = train(field, march, even, little, 1, 4);
  CHECK(fours.report.is_finite && fours.report.n_rays_used <= even.view.n);
  if (even.view.n >= 64 * kFusedSlots)  // a slot's share of the samples is that of many pixels
    CHECK(0 < fours.report.n_rays_used && fours.report.n_rays_used < even.view.n);
  CHECK(fours.report.n_rays_used % 4 == 0);
  for (int64_t i = 0; i < even.view.n; i += 4) {
    bool is_dropped = true, is_whole = true;
    for (int64_t k = i; k < i + 4; ++k) {
      is_dropped &= fours.acc[k] == 0;
      is_whole &= fours.acc[k] == whole.acc[k];
    }
    CHECK(is_dropped || is_whole);
  }
  CHECK(same(fours, train(field, march, even, little, 3, 4)));
  CHECK(train(field, march, rays, kFusedSlots, 3).report.n_rays_used < rays.view.n);  // one row per slot
}

// Training and rendering evaluate the same samples by the same products and add up to max_samples terms per ray.
static void test_images_match_training(const Case& c, bool bf16_products, const Rays& rays) {
  const Field field(c, bf16_products);
  const test::Grid grid = test::make_grid(c.n_cascades, 4, 1);
  const FusedMarch march = march_through(grid, false);
  const int64_t n = rays.view.n, bytes = fused_render_scratch_bytes(field.view, march);
  const Training trained = train(field, march, rays, kFusedSlots * (n / kFusedSlots + 1) * march.max_samples, 1);
  const double bound = march.max_samples * 0x1p-24;
  for (const int n_threads : {1, 3}) {
    set_num_threads(n_threads);
    AlignedVector<std::byte> scratch(n_threads * bytes, std::byte{0xff});
    std::vector<float> rgb(3 * n), depth(n), median(n), acc(n);
    fused_render(field.view, march, rays.view, 0, {rgb.data(), depth.data(), median.data(), acc.data()}, scratch.data(),
                 bytes);
    for (int64_t i = 0; i < n; ++i) {
      CHECK(std::fabs(acc[i] - trained.acc[i]) <= bound);
      CHECK(std::fabs(depth[i] - trained.depth[i]) <= 4 * bound);  // distances stay below 4
      CHECK((median[i] < INFINITY) == (acc[i] > 0.5f));
      for (int channel = 0; channel < 3; ++channel) {
        const float behind = (1 - trained.acc[i]) * rays.background[3 * i + channel];
        CHECK(std::fabs(rgb[3 * i + channel] + behind - trained.rgb[3 * i + channel]) <= 2 * bound);
      }
    }
    const std::vector<float> before = rgb;
    fused_render(field.view, march, rays.view, 0.05f, {rgb.data(), depth.data(), median.data(), acc.data()},
                 scratch.data(), bytes);
    CHECK(rgb != before);
  }
}

static void test_density(const Case& c, bool bf16_products) {
  const Field field(c, bf16_products);
  const int64_t bytes = fused_render_scratch_bytes(field.view, FusedMarch{});
  for (const int64_t n : {0, 1, 97, 5000}) {
    const std::vector<float> positions = test::uniform(3 * n, -1, 2, 8);
    std::vector<float> sigma(n), again(n);
    for (const int n_threads : {1, 3}) {
      set_num_threads(n_threads);
      AlignedVector<std::byte> scratch(n_threads * bytes, std::byte{0xff});
      fused_density(field.view, positions.data(), n, (n_threads == 1 ? sigma : again).data(), scratch.data(), bytes);
    }
    for (const float s : sigma) CHECK(s > 0 && s < INFINITY);
    CHECK(sigma == again);
  }
}

static void test_case(const Case& c, int64_t n_rays) {
  const Rays rays(n_rays);
  for (const bool bf16_products : {false, true}) {
    if (bf16_products && !fused_bf16_supported(c.density, c.color)) continue;
    test_training(c, bf16_products, rays);
    test_images_match_training(c, bf16_products, rays);
    test_density(c, bf16_products);
  }
}

static FusedNet net(int n_inputs, int n_outputs, int width, int n_hidden, Activation activation, Activation output) {
  return {nullptr, n_inputs, n_outputs, width, n_hidden, activation, output, 1};
}

int main() {
  constexpr auto kNone = Activation::kNone;
  const GridConfig hashed{3, 3, 2, 9, 4, 1.7f, GridType::kHash, Interpolation::kLinear};
  const GridConfig dense{3, 2, 1, 19, 3, 2, GridType::kDense, Interpolation::kSmoothstep};
  // surfaces that end rays after some tens of samples
  test_case({hashed, net(6, 5, 32, 1, Activation::kReLU, kNone),
             net(5 + 9, 3, 32, 2, Activation::kReLU, Activation::kSigmoid), 3, true, 0.2f, 1},
            5 * kFusedSlots + 3);
  // activations that store their input, widths that are no multiple of 32, and a volume so thin that the samples of a
  // slot's rays overflow a tile
  test_case({dense, net(2, 16, 16, 2, Activation::kSiLU, kNone),
             net(16 + 1, 3, 48, 1, Activation::kSine, Activation::kNone), 1, false, 0.02f, 2},
            20 * kFusedSlots);
  return test::finish("fused_radiance");
}
