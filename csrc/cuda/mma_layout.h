// SPDX-License-Identifier: Apache-2.0
// Which element of a 16 x 16 block each lane of a warp holds for mma.m16n8k16 (PTX ISA, "Matrix fragments for
// mma.m16n8k16"), as pure index functions: kernels, packing and the host tests read the same ones. Everything is made
// of such blocks. In memory a block of halves is 32 Words, that of lane 0 first: one 16-byte access per lane, without
// bank conflicts and coalesced.
//
//   word w of a lane:  A operand and packed results   row    lane / 4 + 8 (w & 1)    columns 2 (lane % 4) + 8 (w >> 1),
//   + 1
//                      B operand of C += A B^T        row    lane / 4 + 8 (w >> 1)   columns 2 (lane % 4) + 8 (w & 1),
//                      + 1
//   sum v of a lane is half v & 1 of word v >> 1 in the first layout
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf::cuda {

constexpr int kLanesOfWarp = 32;
constexpr int kSide = 16;  // of a block
constexpr int kBlockValues = kSide * kSide;

struct alignas(16) Words {  // what a lane holds of a block of halves
  uint32_t w[4];
};
struct alignas(16) Sums {  // what a lane holds of a block of float sums
  float v[8];
};

// ---- A operand, packed results ----
NF_HD int word_row(int lane, int word) { return (lane >> 2) + 8 * (word & 1); }
NF_HD int word_column(int lane, int word) { return 2 * (lane & 3) + 8 * (word >> 1); }  // and the next one
NF_HD int sum_row(int lane, int v) { return word_row(lane, v >> 1); }
NF_HD int sum_column(int lane, int v) { return word_column(lane, v >> 1) + (v & 1); }

// ---- B operand: a matrix [n, k] whose product with A [m, k] is A B^T ----
NF_HD int operand_row(int lane, int word) { return (lane >> 2) + 8 * (word >> 1); }
NF_HD int operand_column(int lane, int word) { return 2 * (lane & 3) + 8 * (word & 1); }  // and the next one

// From a block X in the first layout whose 8 x 8 quarters were transposed in place (movmatrix), word by word:
// X^T as A operand takes them in this order; X^T as B operand (the product then is A X) takes them as they are.
NF_HD int transposed_word(int word) { return (word >> 1) | (word & 1) << 1; }

// ---- float sums of a block in memory: 64 groups of 4 floats, those of sums 0 ... 3 of all lanes first ----
NF_HD int sum_group(int lane, int half) { return half * kLanesOfWarp + lane; }
struct SumPlace {
  int row, column;
};
// Where float `position` of a block in memory lies in the matrix.
NF_HD SumPlace sum_place(int position) {
  const int group = position >> 2, lane = group & 31, v = (group >> 5) * 4 + (position & 3);
  return {sum_row(lane, v), sum_column(lane, v)};
}

}  // namespace nf::cuda
