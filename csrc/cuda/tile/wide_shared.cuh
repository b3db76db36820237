// Shared memory of the wide loop (gemm_wide.cuh).
#pragma once

#include <cstdint>

#include "cuda/tile/gemm_shape.h"
#include "cuda/tile/gemm_steps.cuh"

namespace lowbit::cuda {

struct Wide {
  static constexpr int kThreads = kWideThreads, kRowsW = kWideTile, kRowsX = kWideColumns;
};

// Scales of one segment in a step (p.even: of one part).
struct WideScales {
  float w[Wide::kRowsW];
  float w_zero[Wide::kRowsW];  // float engines; of byte engines where it is a float
  int32_t w_int[Wide::kRowsW];
  float x[Wide::kRowsX];
  int32_t x_int[Wide::kRowsX];
};

// Shared memory: this, the stages (weights, rows of x), the scales in use and the next ones, the windows that they come
// by. The output tile of fp32 takes the place of the stages.
template <class E, int kBits>
struct WideShared {
  Step steps[kStepRing];
  Walker walker;  // of thread 0; in registers it would be everybody's
  Tables<E> tables;
  float last_scale[Wide::kRowsX];
  int32_t x_sums[Wide::kRowsX];
  int32_t expert, m0, row_end;  // the rows of x, from there up to there, are of this one

  static constexpr int weights(int terms) {
    return kBits > 0 ? Wide::kRowsW / 16 * 128 * kBits : Wide::kRowsW * E::kRowBytes * terms;
  }
  static constexpr int rows(int terms) { return Wide::kRowsX * E::kRowBytes * terms; }
  static constexpr int64_t header() { return (static_cast<int64_t>(sizeof(WideShared)) + 127) / 128 * 128; }
  static int64_t bytes(const GemmParams& p, int stages) {
    const int64_t ring = int64_t{stages} * (weights(p.w_terms) + rows(p.x_terms)) +
                         2 * p.slots * static_cast<int64_t>(sizeof(WideScales)) + WideWindows::bytes(p);
    const int64_t tile = int64_t{4} * Wide::kRowsX * (Wide::kRowsW + 4);
    return header() + (ring > tile ? ring : tile);
  }
};

}  // namespace lowbit::cuda
