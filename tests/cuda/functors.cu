// SPDX-License-Identifier: Apache-2.0
// Every piece of csrc/math in a kernel, float and double where it is a template: including a header does not compile
// its templates. Not part of any module; check_build.sh compiles it, and wants every header of csrc/math named here.
#include <cstdint>

#include "math/aabb.h"
#include "math/activation.h"
#include "math/adam.h"
#include "math/camera.h"
#include "math/composite.h"
#include "math/depth_fusion.h"
#include "math/elementary.h"
#include "math/exponential.h"
#include "math/footprint.h"
#include "math/fourier_features.h"
#include "math/frequency.h"
#include "math/gates.h"
#include "math/hash_grid.h"
#include "math/kilo_grid.h"
#include "math/kilo_mlp.h"
#include "math/march.h"
#include "math/mesh_tree.h"
#include "math/modulation.h"
#include "math/occupancy.h"
#include "math/pixel.h"
#include "math/spherical_harmonics.h"
#include "math/trunc_exp.h"

namespace nf {

template <typename Functor>
__global__ void run(Functor functor, int64_t n) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) functor(i);
}

// ---- what is no functor yet: the body of one thread ----

template <Activation kind, typename T>
struct Activate {
  const T* z;    // [n]
  T *h, *dh_dz;  // [n]
  NF_HD void operator()(int64_t i) const {
    h[i] = activation_forward<kind>(z[i]);
    dh_dz[i] = activation_derivative<kind>(stores_input(kind) ? z[i] : h[i]);
  }
};

template <typename T>
struct Adam {
  AdamUpdate<T> update;
  T rate;
  T *params, *grad, *exp_avg, *exp_avg_sq;  // [n]
  NF_HD void operator()(int64_t i) const { params[i] = update(params[i], grad[i], rate, exp_avg + i, exp_avg_sq + i); }
};

template <typename T>
struct Composite {
  const T *taus, *rgbs, *t_starts, *deltas;  // [n, n_samples], rgbs with a last axis of 3
  T *rgb, *depth, *acc, *distortion;         // [n], rgb [n, 3]
  T *dL_dtaus, *dL_dmidpoints;               // [n, n_samples]
  int64_t n_samples;
  NF_HD void operator()(int64_t ray) const {
    const int64_t first = ray * n_samples, end = first + n_samples;
    CompositeForward<T> sum;
    DistortionForward<T> spread;
    for (int64_t s = first; s < end && !sum.is_opaque(T(kEarlyStopTransmittance)); ++s) {
      const T weight = sum.add(opacity(taus[s]), rgbs[3 * s], rgbs[3 * s + 1], rgbs[3 * s + 2], t_starts[s]);
      spread.add(weight, t_starts[s], deltas[s]);
    }
    rgb[3 * ray] = sum.r, rgb[3 * ray + 1] = sum.g, rgb[3 * ray + 2] = sum.b;
    depth[ray] = sum.depth, acc[ray] = sum.acc, distortion[ray] = spread.value;
    CompositeBackward<T> walk(sum.acc + T(2) * spread.value);
    DistortionBackward<T> back(sum.acc, spread.lever, t_starts[first]);
    for (int64_t s = first; s < end && !walk.is_opaque(T(kEarlyStopTransmittance)); ++s) {
      T d_weight;
      back.add(walk.weight(opacity(taus[s])), t_starts[s], deltas[s], &d_weight, dL_dmidpoints + s);
      dL_dtaus[s] = walk.add(opacity(taus[s]), T(1) + d_weight);
    }
  }
};

template <typename T, int D, int F, typename P>
struct Grid {
  GridLevel level;
  Interpolation interpolation;
  const P* table;
  const T *x, *dL_dy, *v;  // [n, D], [n, F], [n, D]
  T *y, *dL_dtable, *dL_dx, *dH_dtable, *dH_dy, *dH_dx;
  NF_HD void operator()(int64_t i) const {
    grid_forward<T, D, F>(level, interpolation, table, x + i * D, y + i * F);
    grid_backward_table<T, D, F>(level, interpolation, x + i * D, dL_dy + i * F, dL_dtable);
    grid_backward_input<T, D, F>(level, interpolation, table, x + i * D, dL_dy + i * F, dL_dx + i * D);
    grid_backward_backward_input<T, D, F>(level, interpolation, table, x + i * D, dL_dy + i * F, v + i * D, dH_dtable,
                                          dH_dy + i * F, dH_dx + i * D);
  }
};

template <typename T>
struct Modulate {
  ModulationGrid grid;
  const T *x, *values, *dL_dy;  // [n, n_dims], [n_nodes, n_channels], [n, n_channels]
  T *y, *dL_dvalues, *dL_dx;
  int n_channels;
  NF_HD void operator()(int64_t i) const {
    const T *at = x + i * grid.n_dims, *grad = dL_dy + i * n_channels;
    y[i] = normalized_gradient(grad[0], at[0], inverse_deviation(grad[0], T(n_channels)), grad[0], grad[0]);
  }
};

// The entries of positions in the cells of their networks, and the gradient of their sum.
template <typename T>
struct KiloEncode {
  KiloGrid<T> grid;
  KiloShape shape;
  const T* x;          // [n, 3]
  int32_t* network;    // [n]
  T *entries, *dL_dx;  // [n, n_position], [n]
  NF_HD void operator()(int64_t i) const {
    T local[3];
    T* own = entries + i * shape.n_position();
    network[i] = grid.locate(x + 3 * i, local);
    kilo_encode(local, shape.position_frequencies, [&](int j, int axis, T value) { own[3 * j + axis] = value; });
    dL_dx[i] = kilo_encode_gradient<T>(
        shape.position_frequencies, [&](int j) { return own[3 * j]; }, [](int) { return T(1); });
  }
};

struct March {
  OccupancyView grid;
  StepLattice lattice;
  const float *origins, *directions;  // [n, 3]
  float *t_starts, *t_ends;           // [n, most]
  int64_t most;
  uint64_t stream;
  NF_HD void operator()(int64_t i) const {
    RayMarch ray =
        begin_march(grid, lattice, origins + 3 * i, directions + 3 * i, 0, INFINITY, march_jitter(stream, i));
    for (int64_t s = i * most; s < (i + 1) * most; ++s)
      if (!next_sample(grid, lattice, ray, t_starts + s, t_ends + s)) return;
  }
};

struct SightOfCells {
  SeenViews views;
  int32_t log2_resolution;
  bool* seen;  // [n]
  NF_HD void operator()(int64_t cell) const {
    float center[3];
    const float half = 0.5f * cell_bounds(log2_resolution, cell, center);
    for (float& x : center) x += half;
    Footprint print;
    seen[cell] = sight_of_cube(views, 0, center, half, &print) != Sight::kOutside;
  }
};

#define NF_KERNEL(...) template __global__ void run(__VA_ARGS__, int64_t);

#define NF_ACTIVATION(kind)                    \
  NF_KERNEL(Activate<Activation::kind, float>) \
  NF_KERNEL(Activate<Activation::kind, double>)
NF_ACTIVATION(kNone)
NF_ACTIVATION(kReLU)
NF_ACTIVATION(kLeakyReLU)
NF_ACTIVATION(kSiLU)
NF_ACTIVATION(kExponential)
NF_ACTIVATION(kSine)
NF_ACTIVATION(kSigmoid)
NF_ACTIVATION(kSquareplus)
NF_ACTIVATION(kSoftplus)
NF_ACTIVATION(kTanh)
NF_ACTIVATION(kGaussian)
NF_ACTIVATION(kGabor)
NF_ACTIVATION(kFiner)

#define NF_BOTH(name)    \
  NF_KERNEL(name<float>) \
  NF_KERNEL(name<double>)
NF_BOTH(Adam)
NF_BOTH(CameraRays)
NF_BOTH(Composite)
NF_BOTH(FourierBackward)
NF_BOTH(FourierForward)
NF_BOTH(FrequencyBackward)
NF_BOTH(FrequencyForward)
NF_BOTH(Modulate)
NF_BOTH(ProjectPoints)
NF_BOTH(RayAabb)
NF_BOTH(TruncExpBackward)
NF_BOTH(TruncExpForward)

NF_KERNEL(FuseDepths)
NF_KERNEL(Grid<float, 3, 2, half>)
NF_KERNEL(Grid<float, 4, 1, float>)
NF_KERNEL(Grid<double, 2, 8, double>)
NF_KERNEL(March)
NF_KERNEL(MeshDistance)
NF_KERNEL(MeshInside)
NF_KERNEL(OccupancyDraw)
NF_KERNEL(KiloEncode<float>)
NF_KERNEL(KiloEncode<double>)
NF_KERNEL(SamplePixels<float>)
NF_KERNEL(SamplePixels<uint8_t>)
NF_KERNEL(SeenInDepths)
NF_KERNEL(SightOfCells)
NF_KERNEL(SphericalHarmonicsBackward<8, float>)
NF_KERNEL(SphericalHarmonicsBackward<8, double>)
NF_KERNEL(SphericalHarmonicsForward<8, float>)
NF_KERNEL(SphericalHarmonicsForward<8, double>)

}  // namespace nf
