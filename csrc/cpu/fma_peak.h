// SPDX-License-Identifier: Apache-2.0
// The arithmetic roofs of this machine for the code of this instruction set, to put beside measured kernels.
#pragma once

namespace nf::cpu {

// GFLOP/s of multiply-adds that never leave the registers, on num_threads() threads for about `seconds`. A madd counts
// as 2, also where the instruction set needs two instructions for it.
double measure_fma_peak(double seconds);
// The same of products of bf16 pairs, two madds a lane; 0 without them (mlp_tile.h).
double measure_bf16_peak(double seconds);

}  // namespace nf::cpu
