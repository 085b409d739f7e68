// SPDX-License-Identifier: Apache-2.0
#include "ops/fused_mlp.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>

#include <optional>
#include <tuple>

#include "bindings/common.h"
#ifdef NF_CUDA
#include "ops/fused_mlp_half.h"
#else
#include "cpu/fma_peak.h"
#endif

namespace nf {

namespace {

// n_input_dims, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, has_bias, input_padding,
// (first_omega, omega, scale), n_modulation, normalizes. A tuple and not a class: two modules of one process (baseline
// is always loaded) cannot both register a type.
using ShapeTuple = std::tuple<int64_t, int64_t, int64_t, int64_t, int, int, bool, double,
                              std::tuple<double, double, double>, int64_t, bool>;

backend::MlpShape make_shape(const ShapeTuple& t) {
  const auto [first_omega, omega, scale] = std::get<8>(t);
  return {std::get<0>(t),
          std::get<1>(t),
          std::get<2>(t),
          std::get<3>(t),
          static_cast<Activation>(std::get<4>(t)),
          static_cast<Activation>(std::get<5>(t)),
          std::get<6>(t),
          std::get<7>(t),
          first_omega,
          {omega, scale},
          std::get<9>(t),
          std::get<10>(t)};
}

template <typename X, typename P>
void check_inputs(const backend::MlpShape& shape, const Array<const X, 2>& x, const Array<const P, 1>& params,
                  int64_t modulation_size, int64_t y_size) {
  const auto n = static_cast<int64_t>(x.shape(0));
  expect_size("fused_mlp: x", n * shape.n_input_dims, x.size());
  expect_size("fused_mlp: params", shape.n_params(), params.size());
  expect_size("fused_mlp: modulation", n * shape.n_modulation, modulation_size);
  expect_size("fused_mlp: y", n * shape.n_output_dims, y_size);
}

template <typename T>
void bind(nb::module_& m) {
  m.def(
      "fused_mlp_forward",
      [](const ShapeTuple& shape, Array<const T, 2> x, Array<const T, 1> params,
         std::optional<Array<const T, 2>> modulation, Array<T, 2> y, Array<T, 1> saved, Array<T, 1> scratch) {
        const backend::MlpShape s = make_shape(shape);
        check_inputs(s, x, params, modulation ? modulation->size() : 0, y.size());
        if (saved.size() > 0) expect_size("fused_mlp: saved", x.shape(0) * s.saved_per_sample(), saved.size());
        expect_size("fused_mlp: scratch", backend::fused_mlp_forward_scratch(s), scratch.size());
        backend::fused_mlp_forward<T>(s, x.data(), params.data(), x.shape(0), y.data(),
                                      saved.shape(0) > 0 ? saved.data() : nullptr, scratch.data(),
                                      modulation ? modulation->data() : nullptr);
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("params").noconvert(),
      nb::arg("modulation").noconvert().none(), nb::arg("y").noconvert(), nb::arg("saved").noconvert(),
      nb::arg("scratch").noconvert(), ReleaseGil());
  m.def(
      "fused_mlp_backward",
      [](const ShapeTuple& shape, Array<const T, 2> x, Array<const T, 1> params,
         std::optional<Array<const T, 2>> modulation, Array<const T, 2> y, Array<const T, 1> saved,
         Array<const T, 2> dL_dy, Array<T, 2> dL_dx, Array<T, 1> dL_dparams, Array<T, 2> dL_dmodulation,
         Array<T, 1> scratch, bool needs_x, bool needs_params, bool needs_modulation) {
        const backend::MlpShape s = make_shape(shape);
        const auto n = static_cast<int64_t>(x.shape(0));
        check_inputs(s, x, params, modulation ? modulation->size() : 0, y.size());
        expect_size("fused_mlp_backward: saved", n * s.saved_per_sample(), saved.size());
        expect_size("fused_mlp_backward: grad_y", n * s.n_output_dims, dL_dy.size());
        if (needs_x) expect_size("fused_mlp_backward: grad_x", x.size(), dL_dx.size());
        if (needs_modulation)
          expect_size("fused_mlp_backward: grad_modulation", n * s.n_modulation, dL_dmodulation.size());
        if (needs_params) {
          expect_size("fused_mlp_backward: grad_params", s.n_params(), dL_dparams.size());
          expect_size("fused_mlp_backward: scratch", backend::fused_mlp_backward_scratch(s, n), scratch.size());
        }
        backend::fused_mlp_backward<T>(s, x.data(), params.data(), y.data(), saved.data(), dL_dy.data(), x.shape(0),
                                       needs_x ? dL_dx.data() : nullptr, needs_params ? dL_dparams.data() : nullptr,
                                       scratch.data(), modulation ? modulation->data() : nullptr,
                                       needs_modulation ? dL_dmodulation.data() : nullptr);
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("params").noconvert(),
      nb::arg("modulation").noconvert().none(), nb::arg("y").noconvert(), nb::arg("saved").noconvert(),
      nb::arg("dL_dy").noconvert(), nb::arg("dL_dx").noconvert(), nb::arg("dL_dparams").noconvert(),
      nb::arg("dL_dmodulation").noconvert(), nb::arg("scratch").noconvert(), nb::arg("needs_x"),
      nb::arg("needs_params"), nb::arg("needs_modulation"), ReleaseGil());
}

#ifdef NF_CUDA
std::byte* bytes_or_null(const Array<uint8_t, 1>& bytes) {
  return bytes.shape(0) > 0 ? reinterpret_cast<std::byte*>(bytes.data()) : nullptr;
}

// X as Python passes it on: halves arrive as their bits.
template <typename X, typename Stored>
void bind_half(nb::module_& m) {
  const auto in = [](const auto& array) { return reinterpret_cast<const X*>(array.data()); };
  const auto out = [](const auto& array) { return reinterpret_cast<X*>(array.data()); };
  m.def(
      "fused_mlp_half_forward",
      [in, out](const ShapeTuple& shape, Array<const Stored, 2> x, Array<const float, 1> params, Array<Stored, 2> y,
                Array<uint8_t, 1> saved, Array<uint8_t, 1> scratch) {
        const backend::MlpShape s = make_shape(shape);
        const auto n = static_cast<int64_t>(x.shape(0));
        check_inputs(s, x, params, 0, y.size());
        if (saved.size() > 0) expect_size("fused_mlp: saved", backend::fused_mlp_half_saved_bytes(s, n), saved.size());
        expect_size("fused_mlp: scratch", backend::fused_mlp_half_forward_scratch_bytes(s), scratch.size());
        backend::fused_mlp_half_forward<X>(s, in(x), params.data(), n, out(y), bytes_or_null(saved),
                                           bytes_or_null(scratch));
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("params").noconvert(), nb::arg("y").noconvert(),
      nb::arg("saved").noconvert(), nb::arg("scratch").noconvert(), ReleaseGil());
  m.def(
      "fused_mlp_half_backward",
      [in, out](const ShapeTuple& shape, Array<const Stored, 2> x, Array<const float, 1> params,
                Array<const Stored, 2> y, Array<uint8_t, 1> saved, Array<const Stored, 2> dL_dy, Array<Stored, 2> dL_dx,
                Array<float, 1> dL_dparams, Array<uint8_t, 1> scratch, bool needs_x, bool needs_params) {
        const backend::MlpShape s = make_shape(shape);
        const auto n = static_cast<int64_t>(x.shape(0));
        check_inputs(s, x, params, 0, y.size());
        expect_size("fused_mlp_backward: saved", backend::fused_mlp_half_saved_bytes(s, n), saved.size());
        expect_size("fused_mlp_backward: grad_y", n * s.n_output_dims, dL_dy.size());
        if (needs_x) expect_size("fused_mlp_backward: grad_x", x.size(), dL_dx.size());
        if (needs_params) expect_size("fused_mlp_backward: grad_params", s.n_params(), dL_dparams.size());
        expect_size("fused_mlp_backward: scratch", backend::fused_mlp_half_backward_scratch_bytes(s, n),
                    scratch.size());
        backend::fused_mlp_half_backward<X>(s, in(x), params.data(), in(y), bytes_or_null(saved), in(dL_dy), n,
                                            needs_x ? out(dL_dx) : nullptr, needs_params ? dL_dparams.data() : nullptr,
                                            bytes_or_null(scratch));
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("params").noconvert(), nb::arg("y").noconvert(),
      nb::arg("saved").noconvert(), nb::arg("dL_dy").noconvert(), nb::arg("dL_dx").noconvert(),
      nb::arg("dL_dparams").noconvert(), nb::arg("scratch").noconvert(), nb::arg("needs_x"), nb::arg("needs_params"),
      ReleaseGil());
}
#endif

}  // namespace

void bind_fused_mlp(nb::module_& m) {
  m.def(
      "fused_mlp_sizes",
      [](const ShapeTuple& shape, int64_t n) {
        const backend::MlpShape s = make_shape(shape);
        return std::make_tuple(n * s.saved_per_sample(), backend::fused_mlp_forward_scratch(s),
                               backend::fused_mlp_backward_scratch(s, n));
      },
      nb::arg("shape"), nb::arg("n"),
      "Values that forward keeps for backward, and values of scratch of forward and backward.", ReleaseGil());
#ifdef NF_CUDA
  m.def(
      "fused_mlp_half_bytes",
      [](const ShapeTuple& shape, int64_t n) {
        const backend::MlpShape s = make_shape(shape);
        return std::make_tuple(backend::fused_mlp_half_saved_bytes(s, n),
                               backend::fused_mlp_half_forward_scratch_bytes(s),
                               backend::fused_mlp_half_backward_scratch_bytes(s, n));
      },
      nb::arg("shape"), nb::arg("n"), "Bytes that forward keeps for backward, and of scratch of forward and backward.",
      ReleaseGil());
  m.def(
      "fused_mlp_shared_bytes",
      [](const ShapeTuple& shape) {
        const backend::MlpShape s = make_shape(shape);
        return std::make_tuple(backend::fused_mlp_shared_bytes<float>(s), backend::fused_mlp_shared_bytes<double>(s));
      },
      nb::arg("shape"), "Shared memory of a thread block, with float and double.", ReleaseGil());
  m.def(
      "fused_mlp_half_shared_bytes",
      [](const ShapeTuple& shape) { return backend::fused_mlp_half_shared_bytes(make_shape(shape)); }, nb::arg("shape"),
      ReleaseGil());
  m.def("max_shared_bytes", &cuda::max_shared_bytes, ReleaseGil());
  bind_half<float, float>(m);
  bind_half<half, int16_t>(m);
#else
  m.def("measure_fma_peak", &cpu::measure_fma_peak, nb::arg("seconds"), ReleaseGil());
  m.def("measure_bf16_peak", &cpu::measure_bf16_peak, nb::arg("seconds"), ReleaseGil());
#endif
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
