// What the engines of unsigned bytes of weights by signed ones of x share, by whatever instruction they multiply.
#pragma once

#include "cpu/simd/gemm_tiles.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

LOWBIT_INLINE Ints pairs(Ints words) { return _mm256_madd_epi16(words, _mm256_set1_epi16(1)); }

template <int kBits>
struct UnsignedBytes {
  ByteTable<kBits> table;
  Ints flip;
  bool flipped;  // u = code ^ flip: signed and unsigned integers whose codes would take a table of many registers

  UnsignedBytes(const ElementFormat& f, const cpu::CodeTables& t)
      : table(t.u8),
        flip(bytes(t.u8[0])),
        flipped(kBits > 4 && f.kind == Kind::kInt && (f.rule == kSigned || f.rule == kUnsigned || f.bits == 8)) {}
  LOWBIT_INLINE Ints operator()(Ints codes) const { return kBits > 4 && flipped ? bit_xor(codes, flip) : table(codes); }
};

// A tile's operand is the unsigned bytes of its four columns.
struct ByteSums : IntegerSums {
  static constexpr int kOperands = 1;
  static constexpr bool kValueZeros = false;
  static constexpr int word(int operand) { return operand; }

  template <int kBits>
  struct Numbers {
    UnsignedBytes<kBits> unsigned_bytes;
    Numbers(const ElementFormat& f, const cpu::CodeTables& t) : unsigned_bytes(f, t) {}
    LOWBIT_INLINE void operator()(Ints codes, Ints (&out)[1]) const { out[0] = unsigned_bytes(codes); }
    LOWBIT_INLINE void operator()(Ints codes, const float*, Ints (&out)[1]) const { (*this)(codes, out); }
  };

  static LOWBIT_INLINE Ints count(Ints sum, const Ints (&operands)[1], uint32_t ones) {
    return add(sum, pairs(_mm256_maddubs_epi16(operands[0], ints(static_cast<int32_t>(ones)))));
  }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
