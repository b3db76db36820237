// The integer engines: weights as unsigned bytes u = value + offset, activations as signed ones.
//
//   with AVX-VNNI   vpdpbusd into int32, as in cpu/avx512
//   without         vpmaddubsw adds the products of two columns in 16 bits, which saturate: exact while
//                   2 max(u) max|x| < 2^15, so for weights of up to 7 bits with any activations. Sums of several quads
//                   stay in 16 bits as long as they fit (Plan: quads_in_16_bits; 8 quads of 4-bit weights), then
//                   vpmaddwd with ones joins the pairs into int32.
//                   Where a single pair may not fit, both operands are widened to 16 bits and multiplied by vpmaddwd.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small; decoding takes 21 vector instructions of the
// 64 codes of a tile of 2 to 4 bits, seven cycles). M large, at three vector instructions a cycle: vpmaddubsw and
// vpaddw for 32 products, 48 products a cycle less what widening takes, up to 5 bits; 6 and 7 bits, whose sums are
// widened at once by vpmaddwd and vpaddd, 32; 8 bits, vpmaddwd and vpaddd for 16 products, 24. AVX-VNNI: two
// vpdpbusd, 64.
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

struct Int8Math : IntegerSums {
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

#ifdef __AVXVNNI__
  static constexpr bool kPartials = false;
  static LOWBIT_INLINE Ints dot(Ints sum, Ints w, Ints x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }
#else
  static constexpr bool kPartials = true;
  struct Partial {
    Ints words;
  };
  static LOWBIT_INLINE Ints dot(Ints sum, Ints w, Ints x) { return add(sum, pairs(_mm256_maddubs_epi16(w, x))); }
  static LOWBIT_INLINE Partial dot(Partial sum, Ints w, Ints x) {
    const Ints product = _mm256_maddubs_epi16(w, x);
    // Sums fill 12 of the 16 registers. Written out, the sum stays where it is, and is made before the next products.
    __asm__("vpaddw %1, %0, %0" : "+x"(sum.words) : "x"(product));
    return sum;
  }
  static LOWBIT_INLINE Ints widen(Ints sum, Partial part) { return add(sum, pairs(part.words)); }
#endif
  static LOWBIT_INLINE Ints count(Ints sum, const Ints (&operands)[1], uint32_t ones) {
    return add(sum, pairs(_mm256_maddubs_epi16(operands[0], ints(static_cast<int32_t>(ones)))));
  }
};

#ifndef __AVXVNNI__
// A tile's operands are the pairs of columns (0, 2) and of columns (1, 3), in 16 bits.
struct Int16Math : IntegerSums {
  static constexpr int kOperands = 2;
  static constexpr bool kValueZeros = false;
  static constexpr bool kPartials = false;
  static constexpr int word(int operand) { return operand; }

  template <int kBits>
  struct Numbers {
    UnsignedBytes<kBits> unsigned_bytes;
    Numbers(const ElementFormat& f, const cpu::CodeTables& t) : unsigned_bytes(f, t) {}
    LOWBIT_INLINE void operator()(Ints codes, Ints (&out)[2]) const {
      const Ints u = unsigned_bytes(codes);
      out[0] = bit_and(u, _mm256_set1_epi16(255));
      out[1] = _mm256_srli_epi16(u, 8);
    }
    LOWBIT_INLINE void operator()(Ints codes, const float*, Ints (&out)[2]) const { (*this)(codes, out); }
  };

  static LOWBIT_INLINE Ints dot(Ints sum, Ints w, Ints x) { return add(sum, _mm256_madd_epi16(w, x)); }
  static LOWBIT_INLINE Ints count(Ints sum, const Ints (&operands)[2], uint32_t ones) {
    const Ints even = ints(static_cast<int32_t>(ones & 0x00ff00ff)),
               odd = ints(static_cast<int32_t>(ones >> 8 & 0x00ff00ff));
    return add(sum, add(_mm256_madd_epi16(operands[0], even), _mm256_madd_epi16(operands[1], odd)));
  }
};
#endif

}  // namespace

// Panels of 4 tiles take 32 KiB.
const cpu::Engine kInt8Engine = engine<Int8Math>(128);

#ifdef __AVXVNNI__
constexpr const cpu::Engine* kInt16 = nullptr;
#else
const cpu::Engine kInt16Engine = engine<Int16Math>(64);
constexpr const cpu::Engine* kInt16 = &kInt16Engine;
#endif

cpu::GemmIsa gemm_isa(int64_t) {
  cpu::GemmIsa isa = kGemmRows;
  isa.engines[static_cast<int>(cpu::Numbers::kInt8)] = &kInt8Engine;
  isa.engines[static_cast<int>(cpu::Numbers::kInt16)] = kInt16;
  // no product of bf16 pairs: numbers that are exact in bf16 are multiplied in fp32
  isa.engines[static_cast<int>(cpu::Numbers::kBF16)] = &kF32Engine;
  isa.engines[static_cast<int>(cpu::Numbers::kF32)] = &kF32Engine;
  return isa;
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
