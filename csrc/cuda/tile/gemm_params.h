// The kernel parameter of the tensor-core GEMM (gemm_wide.cuh, gemm_narrow.cuh), made on the host by plan_gemm.
//
// K is walked in steps of 64 slots, a step in 2 or 4 pieces of `chunk` slots, the K of one multiply. A piece holds
// columns of one segment (ref/gemm_args.h), from its first slot on, the rest are zeros; where all segments begin at
// multiples of `chunk` (`linear`), slot and column are the same. Floats are also cut at multiples of `unit`, and each
// part joins by itself: so a sum in the tensor core has at most `unit` terms, whatever the format, M or the kernel.
// Integers are cut there in the narrow loop, and in the wide one where it shares K.
#pragma once

#include "cuda/tile/operand.cuh"

namespace lowbit::cuda {

inline constexpr int kStepSlots = 64;
inline constexpr int kMaxCuts = 6;
inline constexpr int kMostStages = 4;
inline constexpr int kMaxTerms = 3;  // 16-bit floats whose sum is a value

struct GemmParams {
  Operand w, x;
  int32_t m, n, k;
  Divisor across;          // blocks go through the tiles of w first, then those of x: n tiles beside each other
  int32_t cuts[kMaxCuts];  // columns of the blocks that begin segments; 0 past the last
  int32_t w_cuts;          // so many are of blocks of w, the others of x
  int32_t unit, chunk;
  int32_t stages, slots;  // 1 .. kMostStages steps in shared memory; segments that a step can meet, 1 .. 4
  bool linear;
  // All parts have `part` columns, a multiple of 64, but for the last: the loops need no walk. Then there is one term.
  bool even;
  int32_t part, segment;  // segment: columns, 0: all
  bool small_sums;        // of bytes: every sum of a segment is below 2^22
  bool far_zeros;         // wide loop: zero points are 32 bits, and the corrected sum of a segment may not be
  bool code_windows;      // w's planes come in windows (tile/code_window.cuh, tile/warp_codes.cuh)
  bool w_tiles;           // w through rows: mma64 tiles are taken whole
  bool mma64_order;       // w through rows: floats are multiplied in the order of mma64 words, as of more rows of x
  bool x_async;           // rows of x are copied as they lie
  bool x_scale_joins;     // x's scale changes along K
  bool x_scaled;          // x is quantized: its scale, or 2^-shift
  bool w_sums, x_sums;    // the correction of zero points and offsets needs the sums of bytes
  bool raw;               // int32 out
  int32_t x_terms, w_terms;
  // decoding of mma64 weights (tile/weight_words.cuh)
  uint32_t flip;
  int32_t float_shift;
  uint32_t float_scale, float_special;

  const void* bias;
  DType bias_dtype;
  int64_t bias_stride;
  Outliers outliers;
  Matrix out;

  // grouped: expert e owns rows up to offs[e] of x and out, and matrices so many bytes further on
  const int32_t* offs;
  int32_t experts;
  int64_t w_step, w_scale_step, w_second_step, w_zero_step, bias_step;

  // split: K is shared by gridDim.y blocks, which leave their parts in `parts`. Narrow loop: the last of a tile, by
  // `arrivals`, joins.
  void* parts;
  int32_t* arrivals;
  int32_t unit_parts;  // most parts of a unit
  int32_t turn_units;  // tile/narrow_walk.cuh: units that a warp takes side by side
  // Wide loop (tile/stripes.cuh), stripe_parts > 0: each block has `stripe` columns, a multiple of 512, and at most so
  // many parts; stripe 0 joins its own parts (`first_joins`).
  int32_t stripe, stripe_parts;
  bool first_joins;
  int32_t* counts;
};

// Whether the narrow loop of mma64 weights (tile/narrow_stream.cuh) has the product: parts of a unit or of whole units,
// and rows of x and all scales brought by a few instructions that stand in the loop, without a call. `nibbles`: of the
// engine; its x comes through registers.
inline bool streams(const GemmParams& p, bool nibbles) {
  if (!p.linear || p.w.is_complex || p.w_terms != 1 || p.x_terms != 1) return false;
  if (!nibbles && !p.x_async) return false;
  if (p.w.scale_kind == ScaleKind::kOther || (p.x_scale_joins && p.x.scale_kind == ScaleKind::kOther)) return false;
  if (p.w.has_zero && (p.w.zero.coded || p.w.zero.has_second)) return false;
  const int32_t least = p.segment;
  if (least == 0) return true;
  for (int i = 0; i < kMaxCuts; ++i) {
    if (p.cuts[i] % least != 0) return false;
  }
  return p.unit % least == 0 || least % p.unit == 0;
}

}  // namespace lowbit::cuda
