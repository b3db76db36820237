// Philox4x32-10 (common/philox.h) of kLanes counters at once. Static, as all of this folder's headers.
#pragma once

#include "common/philox.h"
#include "cpu/simd/vector.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// The 8 kLanes half words of blocks `block` .. `block` + kLanes - 1, in order.
inline void philox_blocks(const Philox& random, uint64_t block, uint16_t* out) {
  Ints c0, c1;
  count_from(random.offset + block, &c0, &c1);
  Ints c2 = no_ints(), c3 = c2;
  auto k0 = static_cast<uint32_t>(random.seed), k1 = static_cast<uint32_t>(random.seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    Ints h0, l0, h1, l1;
    multiply_wide(c0, 0xD2511F53u, &h0, &l0);
    multiply_wide(c2, 0xCD9E8D57u, &h1, &l1);
    c0 = xor3(h1, c1, ints(static_cast<int>(k0)));
    c2 = xor3(h0, c3, ints(static_cast<int>(k1)));
    c1 = l1;
    c3 = l0;
  }
  // a word of every block in each vector -> the four words of each block together: q[j] part l is block 4 l + j
  const Ints x0 = interleave_low32(c0, c1), x1 = interleave_high32(c0, c1);
  const Ints y0 = interleave_low32(c2, c3), y1 = interleave_high32(c2, c3);
  const Ints q[4] = {interleave_low64(x0, y0), interleave_high64(x0, y0), interleave_low64(x1, y1),
                     interleave_high64(x1, y1)};
  for (int j = 0; j < 4; ++j) store_parts(reinterpret_cast<__m128i*>(out) + j, q[j]);
}

// Random bits of elements, in runs of up to 512.
struct RandomRun {
  static constexpr int kHalves = 8 * kLanes;  // of one call
  alignas(64) uint16_t halves[512 + 128];

  // Those of elements index .. index + n - 1; the vector of the last may be read whole.
  const uint16_t* fill(const Philox& random, uint64_t index, int64_t n) {
    const auto head = static_cast<int64_t>(index & 7);
    for (int64_t i = 0; i < head + n; i += kHalves) {
      philox_blocks(random, (index >> 3) + static_cast<uint64_t>(i) / 8, halves + i);
    }
    return halves + head;
  }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
