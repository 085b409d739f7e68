// SPDX-License-Identifier: Apache-2.0
// Tiny networks in float against double, whose vectors are cut differently, at sizes around a tile, on one thread and
// on three; rays through them. Arrays have exactly the sizes that the kernels ask for.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "check.h"
#include "core/parallel.h"
#include "cpu/kilo_sort.h"
#include "ops/kilo_mlp.h"
#include "ops/kilo_render.h"

using namespace nf;
using namespace nf::cpu;

template <typename T>
struct Result {
  std::vector<T> y, dL_dparams, dL_dx, dL_dd;
};

template <typename T>
static std::vector<T> values(int64_t n, uint64_t seed, float scale) {
  const std::vector<float> v = test::uniform(n, -scale, scale, seed);
  return std::vector<T>(v.begin(), v.end());
}

template <typename T>
static Result<T> run(const KiloShape& shape, int64_t n, int64_t n_networks, bool has_color, int n_threads) {
  set_num_threads(n_threads);
  const int64_t n_out = has_color ? 4 : 1;
  const auto params = values<T>(n_networks * shape.n_params(), 1, std::sqrt(3.0f / shape.width));
  const auto x = values<T>(3 * n, 2, 1), d = values<T>(3 * n, 3, 1), dL_dy = values<T>(n * n_out, 4, 1);
  std::vector<int32_t> network(n);
  for (int64_t i = 0; i < n; ++i) network[i] = static_cast<int32_t>(i * i % (n_networks + 1)) - 1;
  const KiloInputs<T> in{shape, params.data(), n_networks, x.data(), has_color ? d.data() : nullptr, network.data(), n};
  Result<T> r;
  r.y.resize(n * n_out);
  r.dL_dparams.resize(params.size());
  r.dL_dx.resize(3 * n);
  r.dL_dd.resize(has_color ? 3 * n : 0);
  std::vector<T> slots(kilo_n_slots(n) * shape.n_params());
  kilo_mlp_forward(in, r.y.data(), nullptr);
  kilo_mlp_backward(in, dL_dy.data(), r.dL_dparams.data(), r.dL_dx.data(), has_color ? r.dL_dd.data() : nullptr,
                    nullptr, slots.data());
  return r;
}

static double relative_error(const std::vector<float>& actual, const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : difference;
}

static void test_shape(const KiloShape& shape, bool has_color) {
  for (const int64_t n : {0, 1, 47, 48, 49, 300, 9000}) {
    const Result<float> one = run<float>(shape, n, 3, has_color, 1), three = run<float>(shape, n, 3, has_color, 3);
    const Result<double> exact = run<double>(shape, n, 3, has_color, 3);
    // the encoding is off by up to 2^-17, which four layers there and four back keep in size; inputs see it times 2^K
    const double bound = 4 * 0x1p-17;
    CHECK(relative_error(one.y, exact.y) <= bound);
    CHECK(relative_error(one.dL_dparams, exact.dL_dparams) <= bound);
    CHECK(relative_error(one.dL_dx, exact.dL_dx) <= 4 * bound);
    CHECK(relative_error(one.dL_dd, exact.dL_dd) <= 4 * bound);
    CHECK(one.y == three.y && one.dL_dparams == three.dL_dparams && one.dL_dx == three.dL_dx);
  }
}

// All weights zero: density b_sigma everywhere, colour sigmoid(0).
static void test_render() {
  const KiloShape shape{16, 2, 1};
  std::vector<float> params(2 * shape.n_params(), 0.0f);
  for (int net = 0; net < 2; ++net) params[net * shape.n_params() + shape.b_sigma()] = 1.0f + net;
  const std::vector<int32_t> cells{0, 1, -1};
  const std::vector<uint8_t> bitfield(64, 0xff), coarse(1, 0);
  FusedMarch march{};
  march.grid = {bitfield.data(), coarse.data(), 1, 3};
  march.lattice = StepLattice::make(1, 0);
  march.far = INFINITY, march.stop_trans = 1e-4f, march.max_samples = 4096;
  const KiloField field{shape, params.data(), 2, {cells.data(), {3, 1, 1}, {0, 0, 0}, {3, 1, 1}}, 2.0f};
  const int64_t n = 5000;
  std::vector<float> origins(3 * n), directions(3 * n), rgb(3 * n), depth(n), median(n), acc(n);
  for (int64_t i = 0; i < n; ++i) {
    origins[3 * i] = (static_cast<float>(i % 3) + 0.5f) / 3;
    origins[3 * i + 1] = 0.5f;
    origins[3 * i + 2] = i % 7 == 0 ? 5.0f : -1.0f;  // some look away
    directions[3 * i + 2] = 1;
  }
  std::vector<float> merged(2 * (16 * 16 + 16));
  kilo_render(field, march, {origins.data(), directions.data(), n}, 0,
              {rgb.data(), depth.data(), median.data(), acc.data()}, merged.data());
  for (int64_t i = 0; i < n; ++i) {
    const float sigma = i % 7 == 0 || i % 3 == 2 ? 0.0f : 2.0f * static_cast<float>(1 + i % 3);
    const float expected = 1 - std::exp(-sigma);  // a way of length 1, to within a step
    CHECK(std::abs(acc[i] - expected) < 4e-3f);
    CHECK(std::abs(rgb[3 * i + 1] - 0.5f * acc[i]) < 1e-5f);
  }
}

// Places that no integer can name, for the float-cast sanitizer; sample numbers beyond int32, which are never read.
static void test_limits() {
  const std::vector<int32_t> cells{0, 1, 2};
  const KiloGrid<float> grid{cells.data(), {3, 1, 1}, {0, 0, 0}, {3, 1, 1}};
  float local[3];
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {nan, INFINITY, -INFINITY, 1e30f, -1e30f}) {
    const float x[3] = {bad, 0.5f, 0.5f};
    CHECK(grid.locate(x, local) == -1);
    CHECK(std::isnan(bad) == std::isnan(local[0]));
  }
  bool refused = false;
  try {
    kilo_sort(nullptr, int64_t(1) << 31, 1, 1, nullptr);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
}

int main() {
  test_shape({16, 2, 1}, true);
  test_shape({32, 4, 0}, true);
  test_shape({48, 0, 3}, false);
  test_render();
  test_limits();
  return test::finish("kilo");
}
