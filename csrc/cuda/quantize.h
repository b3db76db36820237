// quantize and dequantize on CUDA (ref/quantize.h): the bits of the CPU.
//
// Reads of x: one where a block of scales lies in one row and its scale has no scale of its own: groups of 8, 16, ...
// 256 columns and whole rows of at most 256 (a block is some lanes of a warp), longer rows and groups of a multiple of
// 32 columns (a block of threads each; beyond 16,384 columns the rest of the row is read again, from L2). Two, the
// first for the extents of the blocks, where every code depends on values far away: tensor-wide and two-level scales,
// blocks of several rows, other group sizes. Given scales: one.
//
// complex2 sums each block in the reference's order, one warp a block: correct to the bit, and slow for one block of
// the whole tensor.
//
// Pointers on CUDA: Scaling::codebook is device memory. Findings: kNonFinite (x, transformed where asked),
// kScaleOverflow, kBadTable; dequantize: kBadCode, kBadScale, kBadId. Given scales and zero points are not checked.
#pragma once

#include "cuda/launch.h"
#include "ref/quantize.h"

namespace lowbit::cuda {

int64_t quantize_workspace(const QuantizeArgs& args);
Status quantize(const QuantizeArgs& args, const Call& call);

// `args.w.codes`: canonical or plain. `ids`, `high_groups` and outliers are device memory. The row of an id that is
// none of w's rows is zeros.
Status dequantize(const DequantizeArgs& args, const Call& call);

}  // namespace lowbit::cuda
