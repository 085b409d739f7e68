// SPDX-License-Identifier: Apache-2.0
// The MLP operator in float against double, whose tiles are cut differently, at sizes around a tile; arrays and scratch
// of exactly the sizes that the operator asks for, on one thread and on three.
#include <cmath>

#include "check.h"
#include "core/parallel.h"
#include "cpu/fused_radiance_net.h"  // AlignedVector
#include "ops/fused_mlp.h"

using namespace nf;
using namespace nf::cpu;

template <typename T>
struct Result {
  std::vector<T> y, dL_dparams;
  AlignedVector<T> dL_dx;
  std::vector<T> dL_dmodulation;
};

template <typename T>
static Result<T> run(const MlpShape& shape, int64_t n, int n_threads) {
  set_num_threads(n_threads);
  const auto values = [](int64_t size, uint64_t seed, float scale) {
    const std::vector<float> v = test::uniform(size, -scale, scale, seed);
    return std::vector<T>(v.begin(), v.end());
  };
  // activations stay of order one
  const auto params = values(shape.n_params(), 1, std::sqrt(3.0f / static_cast<float>(shape.n_neurons)));
  const auto x = values(n * shape.n_input_dims, 2, 1), dL_dy = values(n * shape.n_output_dims, 3, 1);
  AlignedVector<T> saved(n * shape.saved_per_sample());
  std::vector<T> forward(fused_mlp_forward_scratch(shape)), backward(fused_mlp_backward_scratch(shape, n));
  const auto modulation = values(n * shape.n_modulation, 4, 1.5f);
  const T* modulation_data = shape.n_modulation ? modulation.data() : nullptr;
  Result<T> r{std::vector<T>(dL_dy.size()), std::vector<T>(params.size()), AlignedVector<T>(x.size()),
              std::vector<T>(modulation.size())};
  fused_mlp_forward(shape, x.data(), params.data(), n, r.y.data(), saved.data(), forward.data(), modulation_data);
  fused_mlp_backward(shape, x.data(), params.data(), r.y.data(), saved.data(), dL_dy.data(), n, r.dL_dx.data(),
                     r.dL_dparams.data(), backward.data(), modulation_data,
                     modulation_data ? r.dL_dmodulation.data() : nullptr);
  std::vector<T> without_saving(r.y.size());
  fused_mlp_forward<T>(shape, x.data(), params.data(), n, without_saving.data(), nullptr, forward.data(),
                       modulation_data);
  CHECK(without_saving == r.y);
  return r;
}

template <typename Floats, typename Doubles>
static double relative_error(const Floats& actual, const Doubles& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : difference;
}

static void test_shape(const MlpShape& shape) {
  for (const int64_t n : {0, 1, 95, 96, 97, 500}) {
    const Result<float> single = run<float>(shape, n, 1), three = run<float>(shape, n, 3);
    const Result<double> exact = run<double>(shape, n, 3);
    // products of width 64 round to about 4 units of 2^-24 of their norm; up to four there and four back
    CHECK(relative_error(single.y, exact.y) <= 20 * 0x1p-24);
    CHECK(relative_error(single.dL_dx, exact.dL_dx) <= 40 * 0x1p-24);
    CHECK(relative_error(single.dL_dparams, exact.dL_dparams) <= 40 * 0x1p-24);
    // normalisation takes two more passes over a layer
    CHECK(relative_error(single.dL_dmodulation, exact.dL_dmodulation) <= 80 * 0x1p-24);
    CHECK(single.dL_dmodulation == three.dL_dmodulation);
    CHECK(single.y == three.y && single.dL_dx == three.dL_dx && single.dL_dparams == three.dL_dparams);
  }
}

int main() {
  test_shape({16, 3, 64, 1, Activation::kReLU, Activation::kSigmoid, false, 0});
  test_shape({3, 5, 32, 3, Activation::kSine, Activation::kSiLU, true, 1});
  test_shape({17, 33, 48, 2, Activation::kTanh, Activation::kNone, true, 0});
  test_shape({20, 16, 16, 0, Activation::kReLU, Activation::kExponential, false, 1});
  MlpShape finer{2, 3, 32, 2, Activation::kFiner, Activation::kNone, true, 0, 3.0, {2.0, 1.0}};
  test_shape(finer);
  MlpShape gabor{2, 3, 256, 2, Activation::kGabor, Activation::kNone, true, 0, 3.0, {2.0, 1.5}};
  test_shape(gabor);
  MlpShape modulated{17, 3, 48, 3, Activation::kReLU, Activation::kNone, true, 0};
  modulated.n_modulation = 6;
  test_shape(modulated);
  modulated.n_modulation = 2;
  modulated.activation = Activation::kTanh;
  modulated.normalizes = true;
  test_shape(modulated);
  return test::finish("fused_mlp");
}
