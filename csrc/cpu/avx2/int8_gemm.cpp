// The integer engines: weights as unsigned bytes u = value + offset, activations as signed ones.
//
// vpmaddubsw adds the products of two columns in 16 bits, which saturate: exact while 2 max(u) max|x| < 2^15, so for
// weights of up to 7 bits with any activations. Sums of several quads stay in 16 bits as long as they fit (Plan:
// quads_in_16_bits; 8 quads of 4-bit weights), then vpmaddwd with ones joins the pairs into int32. Where a single pair
// may not fit, both operands are widened to 16 bits and multiplied by vpmaddwd. cpu/avxvnni has vpdpbusd in its place.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small; decoding takes 21 vector instructions of the
// 64 codes of a tile of 2 to 4 bits, seven cycles). M large, at three vector instructions a cycle: vpmaddubsw and
// vpaddw for 32 products, 48 products a cycle less what widening takes, up to 5 bits; 6 and 7 bits, whose sums are
// widened at once by vpmaddwd and vpaddd, 32; 8 bits, vpmaddwd and vpaddd for 16 products, 24.
#include "cpu/avx2/byte_sums.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

struct Int8Math : ByteSums {
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
};

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

}  // namespace

// Panels of 4 tiles take 32 KiB.
const cpu::Engine kInt8Engine = engine<Int8Math>(128);
const cpu::Engine kInt16Engine = engine<Int16Math>(64);

cpu::GemmIsa gemm_isa(int64_t) {
  cpu::GemmIsa isa = kGemmRows;
  isa.engines[static_cast<int>(cpu::Numbers::kInt8)] = &kInt8Engine;
  isa.engines[static_cast<int>(cpu::Numbers::kInt16)] = &kInt16Engine;
  // no product of bf16 pairs: numbers that are exact in bf16 are multiplied in fp32
  isa.engines[static_cast<int>(cpu::Numbers::kBF16)] = &kF32Engine;
  isa.engines[static_cast<int>(cpu::Numbers::kF32)] = &kF32Engine;
  return isa;
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
