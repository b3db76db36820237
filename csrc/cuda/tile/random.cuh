// The random bits of eight elements in a row (common/philox.h): one block where they start at a multiple of eight, else
// two, shifted into place.
#pragma once

#include <cstdint>

#include "common/philox.h"
#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

// Seed and offset by value, or from device memory so that a captured graph draws anew.
__device__ __forceinline__ Philox read_seed(const Philox& given, const int64_t* seed) {
  if (seed == nullptr) return given;
  return {static_cast<uint64_t>(seed[0]), static_cast<uint64_t>(seed[1])};
}

struct Random8 {
  uint32_t word[4] = {};

  Random8() = default;
  __device__ __forceinline__ Random8(const Philox& random, uint64_t index) {
    const PhiloxBlock a = random.block(index >> 3);
#pragma unroll
    for (int i = 0; i < 4; ++i) word[i] = a.word[i];
    const auto skip = static_cast<unsigned>(index & 7);
    if (skip == 0) return;
    const PhiloxBlock b = random.block((index >> 3) + 1);
    uint32_t w[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = a.word[i], w[4 + i] = b.word[i];
    // by 4 and by 2 half words, then by one: no index that is not constant
    if (skip & 4) {
#pragma unroll
      for (int i = 0; i < 6; ++i) w[i] = w[i + 2];
    }
    if (skip & 2) {
#pragma unroll
      for (int i = 0; i < 5; ++i) w[i] = w[i + 1];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) word[i] = skip & 1 ? __funnelshift_r(w[i], w[i + 1], 16) : w[i];
  }
  __device__ __forceinline__ uint32_t half(int i) const { return word[i / 2] >> (i % 2 * 16) & 0xffffu; }
  // The next element comes first, as turn() does with values.
  __device__ __forceinline__ void turn() {
#pragma unroll
    for (int i = 0; i < 3; ++i) word[i] = __funnelshift_r(word[i], word[i + 1], 16);
    word[3] >>= 16;
  }
};

}  // namespace lowbit::cuda
