// How the scales of a matrix follow from the extents of its blocks. The extent of a block is its largest magnitude, or,
// asymmetric, the width of its range widened to hold 0.
//
//   T: the extent that a scale of 1 covers: scale_max(element), asymmetric 2^bits - 1
//
//   float scales            s = extent / T, rounded to the scale's dtype
//   kPowerFloor (E8M0)      s = 2^(floor(log2 extent) - floor(log2 (T * unit))), clamped to the format
//   kTwoLevel (codes that   second = max extent / (T * scale_max(scale format)) over a block of scales, rounded to its
//     have scales)          dtype; s = encode(extent / (T * second))
//   other codes             s = encode(extent / T)
//   zero point              encode(-low / s), low <= 0 the least value of the block: an integer code
//
// All operations are fp32, one by one. A float scale (of either level) that would be stored as 0 is 1, so that a block
// of zeros has scale 1; in E8M0 it is 1 too. A coded scale that would be 0 for a block that is not all zeros is the
// least positive one.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/qmatrix.h"
#include "common/status.h"

namespace lowbit {

// Writable, contiguous storage of rows x cols block values: floats of `dtype` (kU8 for integer zero points), or codes
// in the canonical layout of `format`. May be uninitialized.
struct BlockStore {
  void* data = nullptr;  // nullptr: absent
  DType dtype = DType::kF32;
  const ElementFormat* format = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;

  explicit operator bool() const { return data != nullptr; }
};

struct Scaling {
  const char* op = "quantize";  // these open error sentences
  const char* argument = "x";
  Spec spec;
  const float* codebook = nullptr;
  bool asymmetric = false;
  BlockStore scale, scale2, zero;  // scale2 where the spec has two levels, zero where asymmetric
};

// Whether the rule makes sense for the formats: refuses codebooks that are not finite, ascending and somewhere
// non-zero (nullptr: they cannot be read here), asymmetric anything but unsigned integers, scale formats without a
// positive value.
Status check_scaling(const Scaling& scaling);

// T above.
float extent_of_unit_scale(const Scaling& scaling);

// `s` as float storage of `dtype` keeps it; 1 for what would be 0. Infinite when the dtype cannot hold it.
float stored_scale(float s, DType dtype);

// Fills the stores. extent and low (asymmetric only): one value per block, row by row. Fails, naming the block, when an
// extent or a scale overflows.
Status make_scales(const Scaling& scaling, const float* extent, const float* low, const Parallel& parallel);

// The values of blocks first .. first + count - 1 of matrix row r.
void read_blocks(const BlockValues& v, int64_t r, int64_t first, int64_t count, float* out);

// What the stores hold, as the kernels see it. `second` must live as long as the result.
BlockValues scale_view(const Scaling& scaling, BlockValues* second);
BlockValues zero_view(const Scaling& scaling);

}  // namespace lowbit
