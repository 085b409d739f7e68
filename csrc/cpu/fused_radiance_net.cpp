// SPDX-License-Identifier: Apache-2.0
#include "cpu/fused_radiance_net.h"

#include <algorithm>

namespace nf::cpu {

int64_t param_count(const FusedNet& net) {
  const int64_t width = net.width;
  return width * padded(net.n_inputs) + (net.n_hidden - 1) * width * width + padded(net.n_outputs) * width;
}

PackedNet::PackedNet(const FusedNet& net, int n_main, bool with_bf16)
    : net_(net), n_main_(n_main), with_bf16_(with_bf16) {
  const float* params = net.params;
  const int n_inputs = padded(net.n_inputs);
  layers_.push_back(add_matrix(params, n_inputs, net.width, net.width, 0, n_main));
  const float* first = params;
  params += int64_t(net.width) * n_inputs;
  for (int i = 1; i < net.n_hidden; ++i, params += int64_t(net.width) * net.width)
    layers_.push_back(add_matrix(params, net.width, net.width, net.width, 0, net.width));
  layers_.push_back(add_matrix(params, net.width, padded(net.n_outputs), net.n_outputs, 0, net.width));
  if (n_main < n_inputs) side_ = add_matrix(first, n_inputs, net.width, net.width, n_main, n_inputs - n_main);
}

// Columns [first, first + n_in) of a matrix with n_out rows, padded with zeros.
PackedLayer PackedNet::add_matrix(const float* params, int64_t row_stride, int n_out, int n_out_used, int first,
                                  int n_in) {
  const int n_in_padded = padded(n_in);
  // Without params only the sizes of the packed net are wanted.
  const int64_t size = int64_t(n_in_padded) * n_out;
  AlignedVector<float> input_major(size), output_major(size);
  for (int o = 0; net_.params && o < n_out; ++o) {
    for (int i = 0; i < n_in; ++i) {
      const float w = params[o * row_stride + first + i];
      input_major[int64_t(i) * n_out + o] = w;
      output_major[int64_t(o) * n_in_padded + i] = w;
    }
  }
  PackedLayer layer{n_in_padded, n_out, n_out_used, gradient_size_, {}, {}};
  gradient_size_ += size;
  if (with_bf16_) {
    AlignedVector<bf16_pair> forward(size / 2), backward(size / 2);
    AlignedVector<bf16> rows(size);
    pack_pairs(input_major.data(), n_in_padded, n_out, forward.data());
    pack_pairs(output_major.data(), n_out, n_in_padded, backward.data());
    for (int64_t i = 0; i < size; ++i) rows[i] = to_bf16(output_major[i]);
    layer.brief = {forward.data(), backward.data(), rows.data()};
    pairs_.push_back(std::move(forward));
    pairs_.push_back(std::move(backward));
    brief_.push_back(std::move(rows));
  }
  layer.single = {input_major.data(), output_major.data(), output_major.data()};
  floats_.push_back(std::move(input_major));
  floats_.push_back(std::move(output_major));
  return layer;
}

void PackedNet::unpack_gradient(const float* block, float* dL_dparams) const {
  std::fill(dL_dparams, dL_dparams + param_count(net_), 0.0f);
  const int64_t n_inputs = padded(net_.n_inputs);
  for (int o = 0; o < net_.width; ++o) {
    const float* main = block + layers_[0].gradient + int64_t(o) * layers_[0].n_in;
    std::copy(main, main + n_main_, dL_dparams + o * n_inputs);
    if (side_.n_in == 0) continue;
    const float* side = block + side_.gradient + int64_t(o) * side_.n_in;
    std::copy(side, side + n_inputs - n_main_, dL_dparams + o * n_inputs + n_main_);
  }
  float* out = dL_dparams + net_.width * n_inputs;
  for (size_t i = 1; i < layers_.size(); ++i) {
    const int64_t size = int64_t(layers_[i].n_out) * layers_[i].n_in;
    std::copy(block + layers_[i].gradient, block + layers_[i].gradient + size, out);
    out += size;
  }
}

}  // namespace nf::cpu
