// Scales and zero points, one per block, spread over the elements of runs of 512. Static, as all of this folder's
// headers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd/code_rows.h"
#include "cpu/simd/values.h"
#include "ref/scaling.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// What elements are divided by and shifted by, one of each an element of a run or one for all (step 0).
struct Steps {
  const float* scale;
  const float* zero;  // nullptr: none
  int64_t scale_step, zero_step;
};

// The values of the blocks that a run meets: that of its element i stands at index(i). Blocks of 2^shift elements.
struct BlockRun {
  const float* values;
  int64_t count, head;  // elements of the first block before the run
  int shift;

  int64_t index(int64_t i) const { return (head + i) >> shift; }
};

// Values of blocks, spread over the elements of runs.
class Spread {
 public:
  explicit Spread(const BlockValues& v) : v_(v) {}

  // For elements c .. c + n - 1 of row r, n <= 512; *step is 0 where one value serves all.
  const float* at(int64_t r, int64_t c, int64_t n, int64_t* step) {
    const int64_t wide = v_.block.cols;
    if (wide == 0 || c / wide == (c + n - 1) / wide) {
      const int64_t block = wide == 0 ? 0 : c / wide;
      if (r != row_ || block != block_) {
        read_blocks(v_, r, block, 1, out_);
        for (int i = 1; i < kLanes; ++i) out_[i] = out_[0];
        row_ = r, block_ = block;
      }
      *step = 0;
      return out_;
    }
    block_ = -1;
    *step = 1;
    const int64_t first = c / wide, count = (c + n - 1) / wide - first + 1;
    read_blocks(v_, r, first, count, blocks_);
    for (int64_t j = 0; j < count; ++j) {
      const int64_t begin = std::max((first + j) * wide - c, int64_t{0}), end = std::min((first + j + 1) * wide - c, n);
      const Floats v = floats(blocks_[j]);
      for (int64_t i = begin; i < end; i += kLanes) store(out_ + i, end - i, v);
    }
    return out_;
  }

  // The same, not spread, for blocks of a power of two (0: of a row).
  BlockRun blocks(int64_t r, int64_t c, int64_t n) {
    const int64_t wide = v_.block.cols;
    const int shift = wide == 0 ? 62 : __builtin_ctzll(static_cast<unsigned long long>(wide));
    const int64_t first = wide == 0 ? 0 : c >> shift, count = wide == 0 ? 1 : ((c + n - 1) >> shift) - first + 1;
    read_blocks(v_, r, first, count, blocks_);
    return {blocks_, count, wide == 0 ? 0 : c - (first << shift), shift};
  }

 private:
  const BlockValues& v_;
  int64_t row_ = -1, block_ = -1;
  alignas(64) float out_[kBlock];
  float blocks_[kBlock];
};

inline bool all_finite(const float* v, int64_t n) {
  Mask bad = none();
  for (int64_t i = 0; i < n; i += kLanes) {  // x - x of a number that is not finite is NaN
    const Floats x = load(v + i, n - i);
    bad = either(bad, is_nan(sub(x, x)));
  }
  return !any(bad);
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
