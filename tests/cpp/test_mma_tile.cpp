// SPDX-License-Identifier: Apache-2.0
// The tensor-core perceptron of csrc/cuda on the host: the very tile code, packing and index functions that the kernels
// are made of, with 32 lanes in a loop, against plain loops in double on the same rounded numbers. Memory ends where
// the data ends, so that the sanitizers see a stray access.
#define NF_CUDA  // the backend whose headers are tested

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "cuda/mlp_warp.h"
#include "host_warp.h"

using namespace nf;
using namespace nf::cuda;
using W = test::HostWarp;

static float rounded(float x) { return to_float(to_half(x)); }

// ---- instructions and layouts ----

// C = A B^T + C of one block against the definition, through the index functions.
static void test_layouts() {
  float a[16][16], b[16][16], c[16][16];
  for (int i = 0; i < 256; ++i) {
    a[i / 16][i % 16] = rounded(random_uniform(1, i, 0) - 0.5f);
    b[i / 16][i % 16] = rounded(random_uniform(2, i, 0) - 0.5f);
    c[i / 16][i % 16] = random_uniform(3, i, 0) - 0.5f;
  }
  const auto fragment = W::each([&](int lane) {
    Words words;
    for (int w = 0; w < 4; ++w) {
      const int row = word_row(lane, w), column = word_column(lane, w);
      words.w[w] = pack_halves(a[row][column], a[row][column + 1]);
    }
    return words;
  });
  const auto operand = W::each([&](int lane) {
    Words words;
    for (int w = 0; w < 4; ++w) {
      const int row = operand_row(lane, w), column = operand_column(lane, w);
      words.w[w] = pack_halves(b[row][column], b[row][column + 1]);
    }
    return words;
  });
  auto sums = W::each([&](int lane) {
    Sums s;
    for (int v = 0; v < 8; ++v) s.v[v] = c[sum_row(lane, v)][sum_column(lane, v)];
    return s;
  });
  W::mma(sums, fragment, operand);
  std::vector<float> memory(kBlockValues);
  store_sums<W>(memory.data(), 0, sums);
  for (int position = 0; position < kBlockValues; ++position) {
    const SumPlace place = sum_place(position);
    double expected = c[place.row][place.column];
    for (int k = 0; k < 16; ++k) expected += double(a[place.row][k]) * b[place.column][k];
    CHECK(std::fabs(memory[position] - expected) <= 17 * 5 * 0x1p-24);  // 17 roundings of sums below 5
  }
  const auto again = load_sums<W>(memory.data(), 0);
  for (int lane = 0; lane < 32; ++lane) CHECK(std::equal(again[lane].v, again[lane].v + 8, sums[lane].v));

  // A^T B and the packed results as the next A operand
  const auto t = W::transpose(fragment);
  for (int lane = 0; lane < 32; ++lane)
    for (int w = 0; w < 4; ++w) {
      const uint32_t as_a = t[lane].w[transposed_word(w)], as_b = t[lane].w[w];
      CHECK(low_half(as_a) == a[word_column(lane, w)][word_row(lane, w)]);
      CHECK(high_half(as_a) == a[word_column(lane, w) + 1][word_row(lane, w)]);
      CHECK(low_half(as_b) == a[operand_column(lane, w)][operand_row(lane, w)]);
      CHECK(high_half(as_b) == a[operand_column(lane, w) + 1][operand_row(lane, w)]);
      const Words next = packed(sums[lane]);
      CHECK(low_half(next.w[w]) == rounded(sums[lane].v[2 * w]));
    }
}

// ---- whole networks ----

static float activate(Activation kind, float z) {
  Sums s{};
  s.v[0] = z;
  return activated(kind, s).v[0];
}
static float slope(Activation kind, float stored) {
  Sums s{};
  s.v[0] = 1;
  Words words{};
  words.w[0] = pack_halves(stored, 0);
  return times_derivative(kind, s, unpacked(words)).v[0];
}

// The plain network on rounded factors, sums in double: h[l] [n, n_out(l)], and its gradients.
struct Plain {
  MlpShape shape;
  std::vector<float> params;
  std::vector<std::vector<double>> z, h, dz;  // h[0] is x with padding, h[l + 1] what layer l makes
  std::vector<double> dx, dparams;

  double weight(int64_t l, int64_t out, int64_t in) const {
    const MlpLayer layer = shape.layer(l);
    return rounded(params[layer.weights + out * layer.n_in + in]);
  }
  void forward(const std::vector<float>& x, int64_t n) {
    const int64_t n_in = shape.padded_inputs();
    h.assign(1, std::vector<double>(n * n_in));
    z.clear();
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n_in; ++j)
        h[0][i * n_in + j] = rounded(j < shape.n_input_dims ? x[i * shape.n_input_dims + j] : shape.input_padding);
    for (int64_t l = 0; l <= shape.n_hidden_layers; ++l) {
      const MlpLayer layer = shape.layer(l);
      std::vector<double> zl(n * layer.n_out), hl(n * layer.n_out);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t o = 0; o < layer.n_out; ++o) {
          double sum = shape.has_bias ? params[layer.bias + o] : 0;
          for (int64_t j = 0; j < layer.n_in; ++j) sum += h[l][i * layer.n_in + j] * weight(l, o, j);
          zl[i * layer.n_out + o] = sum;
          const bool last = l == shape.n_hidden_layers;
          const float a = activate(last ? shape.output_activation : shape.activation, static_cast<float>(sum));
          hl[i * layer.n_out + o] = last ? a : rounded(a);
        }
      z.push_back(zl);
      h.push_back(hl);
    }
  }
  void backward(const std::vector<float>& dy, const std::vector<float>& y, int64_t n, float scale) {
    const int64_t top = shape.n_hidden_layers, n_out = shape.n_output_dims;
    dparams.assign(params.size(), 0);
    dz.assign(top + 1, {});
    const MlpLayer last = shape.layer(top);
    dz[top].assign(n * last.n_out, 0);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t o = 0; o < n_out; ++o)
        dz[top][i * last.n_out + o] = rounded(dy[i * n_out + o] * slope_of_output(y[i * n_out + o]) * scale);
    for (int64_t l = top; l >= 0; --l) {
      const MlpLayer layer = shape.layer(l);
      std::vector<double> below(n * layer.n_in, 0);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t o = 0; o < layer.n_out; ++o) {
          const double g = dz[l][i * layer.n_out + o];
          if (shape.has_bias) dparams[layer.bias + o] += g;
          for (int64_t j = 0; j < layer.n_in; ++j) {
            dparams[layer.weights + o * layer.n_in + j] += g * input_of(l, i * layer.n_in + j);
            below[i * layer.n_in + j] += g * weight(l, o, j);
          }
        }
      if (l == 0) {
        dx = below;
      } else {
        dz[l - 1].resize(below.size());
        for (size_t i = 0; i < below.size(); ++i) {
          const bool from_z = stores_input(shape.activation);
          const float stored = rounded(static_cast<float>(from_z ? z[l - 1][i] : h[l][i]));
          dz[l - 1][i] = rounded(static_cast<float>(below[i]) * slope(shape.activation, stored));
        }
      }
    }
  }
  double input_of(int64_t l, int64_t i) const {  // h_l as the gradient of a matrix sees it
    if (l == 0 || !stores_input(shape.activation)) return h[l][i];
    return rounded(activate(shape.activation, rounded(static_cast<float>(z[l - 1][i]))));
  }
  float slope_of_output(float y) const {
    float s = 1;
    with_activation(shape.output_activation, [&](auto k) { s = activation_derivative<decltype(k)::value>(y); });
    return s;
  }
};

// ||actual - expected|| <= bound ||expected||
static bool close(const std::vector<float>& actual, const std::vector<double>& expected, double bound) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return actual.size() == expected.size() && std::sqrt(difference) <= bound * std::sqrt(size);
}

template <int T>
static void run_network(const MlpShape& shape, int64_t n, int n_groups) {
  const float range = shape.activation == Activation::kExponential ? 0.1f : 0.4f;  // no few values make up the norm
  Plain plain{shape, test::uniform(shape.n_params(), -range, range, 5), {}, {}, {}, {}, {}};
  const auto x = test::uniform(n * shape.n_input_dims, -1, 1, 6), dy = test::uniform(n * shape.n_output_dims, -1, 1, 7);
  const MlpBlocks size(shape);
  CHECK(size.width == T || shape.n_hidden_layers == 0);
  const int64_t n_blocks = size.n_matrix_blocks(), n_tiles = (n + kTileRows - 1) / kTileRows;
  std::vector<Words> forward(n_blocks * 32), backward(n_blocks * 32);
  std::vector<float> bias(shape.has_bias ? size.n_bias() : 0);
  const PackMlp pack{shape,        size,          plain.params.data(),
                     forward[0].w, backward[0].w, shape.has_bias ? bias.data() : nullptr};
  for (int64_t i = 0; i < n_blocks * 128; ++i) pack(i);

  std::vector<Words> saved_blocks(shape.n_hidden_layers * n_tiles * kTileBlocks * T * 32);
  const SavedBlocks saved{saved_blocks.data(), n_tiles * kTileBlocks, T};
  std::vector<float> y(n * shape.n_output_dims), y_inference(y.size());
  const int n_in = static_cast<int>(shape.n_input_dims), n_out = static_cast<int>(shape.n_output_dims);
  const RowBlocks<float> rows{{x.data(), n, n_in}, static_cast<float>(shape.input_padding)};
  const auto source_of = [&](int64_t first) {
    return [&rows, first](int m, int k) { return W::each([&](int lane) { return rows(first + m, k, lane); }); };
  };
  const auto sink_to = [&](const RowSink<float>& sink, int64_t first, Activation kind, float scale) {
    return [sink, first, kind, scale](int m, int k, const BlockSums<W>& sums) {
      W::each([&](int lane) {
        Sums s = activated(kind, W::at(sums, lane));
        for (float& v : s.v) v *= scale;
        sink(first + m, k, lane, s);
      });
    };
  };
  const MlpWeights net{size, shape.activation, forward.data(), shape.has_bias ? bias.data() : nullptr, 0};
  for (int64_t first = 0; first < n_tiles * kTileBlocks; first += kRowBlocks) {
    mlp_forward<W, T>(net, saved, first, source_of(first),
                      sink_to({y.data(), n, n_out}, first, shape.output_activation, 1));
    mlp_forward<W, T>(net, {nullptr, 0, T}, first, source_of(first),
                      sink_to({y_inference.data(), n, n_out}, first, shape.output_activation, 1));
  }
  plain.forward(x, n);
  std::vector<double> expected_y(n * n_out);
  for (int64_t i = 0; i < n; ++i)
    for (int o = 0; o < n_out; ++o) expected_y[i * n_out + o] = plain.h.back()[i * shape.padded_outputs() + o];
  // Sums in float against double differ by up to 16 roundings of 2^-24. That moves a hidden value across a border
  // between halves, 2^-11 apart at least, in one case of 2^8 to 2^9, and then by 2^-10 at most: 2^-10 / sqrt(500) of
  // the norm for each layer, which the next ones may double.
  const double bound = 2 * (shape.n_hidden_layers + 1) * 0x1p-10 / std::sqrt(500.0);
  CHECK(y == y_inference);
  CHECK(close(y, expected_y, bound));

  // backward, in n_groups groups of layers with a border between them, thread block by thread block
  const float scale = 4;
  std::vector<float> gradients(size.n_gradient_blocks() * kBlockValues, 0.0f), dx(n * n_in, NAN);
  std::vector<Words> border(n_tiles * kTileBlocks * T * 32);
  const OutputGradient<float> top{{dy.data(), n, n_out}, y.data(), shape.output_activation, scale};
  const auto gradient_of = [&](int64_t row_block, int k) {
    return W::each([&](int lane) { return top(row_block, k, lane); });
  };
  const auto input_of = [&](int64_t row_block, int k) {
    return W::each([&](int lane) { return rows(row_block, k, lane); });
  };
  using Warp = MlpBackward<W, T, decltype(gradient_of), decltype(input_of)>;
  const int n_layers = size.n_hidden + 1;
  for (int group = 0; group < n_groups; ++group) {
    const int hi = n_layers - 1 - group * n_layers / n_groups, lo = n_layers - (group + 1) * n_layers / n_groups;
    const MlpWeights transposed{size, shape.activation, backward.data() + size.first_matrix(lo) * 32, nullptr, lo};
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      std::vector<Warp> warps;
      for (int w = 0; w < kWarps; ++w) {
        warps.push_back({transposed, saved, gradient_of, input_of, (tile * kWarps + w) * kRowBlocks, {}, {}});
        warps.back().fetch(hi);
        if (hi < size.n_hidden) warps.back().load_border(border.data());
      }
      for (int l = hi; l >= lo; --l) {
        std::vector<Words> z(kTileBlocks * size.n_out(l) * 32), h(kTileBlocks * size.n_in(l) * 32);
        const OuterStage stage{z.data(), h.data(), size.n_out(l), size.n_in(l), shape.has_bias};
        for (int w = 0; w < kWarps; ++w) {
          warps[w].stage(l, w, stage, true);
          if (l > 0)
            warps[w].descend(l, w, stage);
          else
            warps[w].leave(w, stage,
                           sink_to({dx.data(), n, n_in}, warps[w].first_row_block, Activation::kNone, 1 / scale));
          if (l > lo) warps[w].fetch(l - 1);
        }
        for (int w = 0; w < kWarps; ++w)
          accumulate_outer<W, T == 8 ? 2 : 1>(stage, w, gradients.data() + size.first_gradient(l) * kBlockValues);
      }
      if (lo > 0)
        for (const Warp& warp : warps) warp.store_border(border.data());
    }
  }
  plain.backward(dy, y, n, scale);
  std::vector<float> dparams(shape.n_params(), NAN);
  const GradientPlace place{shape, size};
  for (int64_t i = 0; i < static_cast<int64_t>(gradients.size()); ++i)
    if (const int64_t p = place(i); p >= 0) {
      CHECK(std::isnan(dparams[p]));  // each parameter once
      dparams[p] = gradients[i];
    }
  CHECK(close(dparams, plain.dparams, 4 * bound));  // four values round: h, its slope, dz, dz below
  std::vector<double> expected_dx(n * n_in);
  for (int64_t i = 0; i < n; ++i)
    for (int j = 0; j < n_in; ++j) expected_dx[i * n_in + j] = plain.dx[i * shape.padded_inputs() + j] / scale;
  CHECK(close(dx, expected_dx, 4 * bound));
}

static void run(const MlpShape& shape, int64_t n, int n_groups = 1) {
  const int before = test::failures;
  switch (MlpBlocks(shape).width) {
    case 1:
      run_network<1>(shape, n, n_groups);
      break;
    case 2:
      run_network<2>(shape, n, n_groups);
      break;
    case 4:
      run_network<4>(shape, n, n_groups);
      break;
    default:
      run_network<8>(shape, n, n_groups);
  }
  if (test::failures > before)
    std::fprintf(stderr, "  network %ld-%ld x %ld-%ld, activations %d %d, bias %d, n %ld, groups %d\n",
                 long(shape.n_input_dims), long(shape.n_neurons), long(shape.n_hidden_layers),
                 long(shape.n_output_dims), int(shape.activation), int(shape.output_activation), int(shape.has_bias),
                 long(n), n_groups);
}

int main() {
  using A = Activation;
  test_layouts();
  run({32, 16, 64, 1, A::kReLU, A::kNone, false, 0}, 257);    // the density network
  run({31, 3, 64, 2, A::kReLU, A::kSigmoid, false, 1}, 129);  // the colour network
  for (int64_t n : {1, 15, 16, 17, 33, 128}) run({5, 3, 16, 2, A::kReLU, A::kNone, true, 0.5}, n);
  for (int64_t width : {16, 32, 48, 64, 80, 96, 112, 128}) run({20, 17, width, 2, A::kReLU, A::kNone, true, 0}, 40);
  for (int64_t n_hidden : {0, 1, 3, 5}) run({19, 33, 32, n_hidden, A::kReLU, A::kNone, true, 1}, 70);
  run({128, 128, 128, 1, A::kReLU, A::kNone, true, 0}, 31);
  for (A kind :
       {A::kNone, A::kLeakyReLU, A::kSiLU, A::kExponential, A::kSigmoid, A::kSquareplus, A::kSoftplus, A::kTanh})
    for (A output : {A::kNone, kind == A::kSiLU ? A::kReLU : kind}) run({7, 5, 32, 2, kind, output, true, 0}, 50);
  for (int n_groups : {2, 3, 4}) run({9, 4, 48, 3, A::kReLU, A::kNone, true, 0}, 150, n_groups);
  return test::finish("mma_tile");
}
