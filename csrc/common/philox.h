// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), the counter-based generator of
// every stochastic op. Element `index` of a tensor (row-major position in the logical, untransposed tensor) uses half
// word index % 8 of the block with counter offset + index / 8, under key `seed`; so any tiling draws alike.
#pragma once

#include <cstdint>

namespace lowbit {

struct PhiloxBlock {
  uint32_t word[4];

  // Half word h in 0..7: low half of word[h / 2] when h is even.
  constexpr uint32_t half(int h) const { return (word[h >> 1] >> ((h & 1) * 16)) & 0xffffu; }
};

constexpr PhiloxBlock philox4x32_10(const uint32_t (&counter)[4], const uint32_t (&key)[2]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    const auto h0 = static_cast<uint32_t>(p0 >> 32), l0 = static_cast<uint32_t>(p0);
    const auto h1 = static_cast<uint32_t>(p1 >> 32), l1 = static_cast<uint32_t>(p1);
    c0 = h1 ^ c1 ^ k0, c1 = l1, c2 = h0 ^ c3 ^ k1, c3 = l0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// seed -> key (low word first); counter -> the low 64 bits of the 128-bit counter (low word first), high bits zero.
struct Philox {
  uint64_t seed = 0;
  uint64_t offset = 0;

  constexpr PhiloxBlock block(uint64_t index_over_8) const {
    const uint64_t c = offset + index_over_8;
    return philox4x32_10({static_cast<uint32_t>(c), static_cast<uint32_t>(c >> 32), 0u, 0u},
                         {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  }
  // The 16 random bits of element `index`.
  constexpr uint32_t bits(uint64_t index) const { return block(index >> 3).half(static_cast<int>(index & 7)); }
};

}  // namespace lowbit
