// The int8-dot engine: weights as unsigned bytes u = value + offset, activations as signed bytes, vpdpbusd into int32.
// Any width of weights becomes bytes by one permute, one bit-matrix transpose and one table permute (decode.h); of
// integers that are decoded where they are used, the transpose gives the bytes.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 64 vpdpbusd over 2 a cycle (Zen 5,
// Sapphire Rapids; 1 on Zen 4). A decoded tile serves all rows of a chunk, so that decoding, 5 instructions for 64
// weights, weighs 5 / rows; a group of g columns adds 3 instructions to its g / 4 dots.
#include "cpu/simd/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

struct Int8Math : IntegerSums {
  static constexpr int kOperands = 1;
  static constexpr bool kValueZeros = false;
  static constexpr bool kPartials = false;
  static constexpr int word(int operand) { return operand; }

  template <int kBits>
  struct Numbers {
    ByteTable<kBits> table;
    __m512i flip;
    bool flipped;  // u = code ^ flip: integers of 8 bits

    Numbers(const ElementFormat& f, const cpu::CodeTables& t)
        : table(t.u8), flip(_mm512_set1_epi8(static_cast<char>(t.u8[0]))), flipped(kBits == 8 && f.is_int()) {}
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[1]) const {
      out[0] = flipped ? _mm512_xor_si512(codes, flip) : table(codes);
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float*, __m512i (&out)[1]) const { (*this)(codes, out); }
  };

  struct Bytes {
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[1]) const { out[0] = codes; }
    LOWBIT_INLINE void operator()(__m512i codes, const float*, __m512i (&out)[1]) const { out[0] = codes; }
  };
  template <class Math, int kBits, class F>
  static LOWBIT_INLINE void with_decoder(const BlockArgs& a, const F& f) {
    if constexpr (kBits < 8) {
      constexpr int kSign = 1 << (kBits - 1);
      const cpu::CodeTables& t = *a.tables;
      if (t.u8_flip == 0) return f(TileDecoder<kBits, 0>(t.u8_shift), Bytes());
      if (t.u8_flip == kSign && t.u8_shift == 0) return f(TileDecoder<kBits, kSign>(), Bytes());
    }
    IntegerSums::with_decoder<Math, kBits>(a, f);
  }

  static LOWBIT_INLINE Sum dot(Sum sum, __m512i w, __m512i x) { return _mm512_dpbusd_epi32(sum, w, x); }
  static LOWBIT_INLINE Ints count(Ints sum, const Ints (&operands)[1], uint32_t ones) {
    return _mm512_dpbusd_epi32(sum, operands[0], ints(static_cast<int32_t>(ones)));
  }
};

}  // namespace

const cpu::Engine kInt8Engine = engine<Int8Math>(256);

}  // namespace lowbit::avx512
