// The sums of tdpbf16ps (amx/bf16_gemm.cpp) by FMA, for so few rows of x that tiles would cost more. 32 columns make a
// partial sum: the products of even and of odd numbers apart, each fused and in order, then the two together. Operands
// are columns 0, 2, 1, 3: as the numbers of a quad lie in a tile.
//
// Floors: those of fp32_gemm.cpp. For one row of x and 64 weights, ports 0 and 5 (a permute takes port 5, a shift port
// 0) have 4 FMA, 4 permutes that give their weights, and what gives the indices: 5 from 3 bits on (6.5 cycles
// together), 2.5 for 2 bits and 1.25 for 1 bit, whose quads share them; floats of 8 bits 24 in all (12 cycles). Memory
// of 14 GB/s takes 8 cycles of 3.5 GHz for 64 weights of 4 bits, 4 for 2 bits, 16 for 8: below 3 bits instructions are
// the limit. Two a weight are the least: vdpbf16ps holds both ports for 2.3 cycles, longer than its two FMA would.
// Measured on Sapphire Rapids from the second cache, with the call's own time (N 256, K 4096): 2.2 ns for 64 weights of
// 1 and of 2 bits, 2.6 of 4, 5.4 of float8.
#include "cpu/avx512/bf16_gemm.h"
#include "cpu/avx512/f32_math.h"

namespace lowbit::avx512 {
namespace {

struct BF16StepMath : F32Math {
  static constexpr bool kPartials = true;
  static constexpr int word(int operand) { return operand == 1 ? 2 : operand == 2 ? 1 : operand; }

  template <int kBits>
  struct Numbers : F32Math::Numbers<kBits> {
    using F32Math::Numbers<kBits>::Numbers;
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[4]) const {
      F32Math::Numbers<kBits>::operator()(codes, out);
      std::swap(out[1], out[2]);
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float* zero, __m512i (&out)[4]) const {
      F32Math::Numbers<kBits>::operator()(codes, zero, out);
      std::swap(out[1], out[2]);
    }
  };

  // The sum that the next operand adds to, and the other.
  struct Partial {
    Floats next, other;
    Partial() = default;
    LOWBIT_INLINE explicit Partial(Ints) : next(no_floats()), other(no_floats()) {}
    LOWBIT_INLINE Partial(Floats n, Floats o) : next(n), other(o) {}
  };
  using F32Math::dot;
  static LOWBIT_INLINE Partial dot(Partial sum, __m512i w, __m512i x) {
    return Partial(sum.other, F32Math::dot(sum.next, w, x));
  }
  static LOWBIT_INLINE Sum widen(Sum sum, Partial part) { return add(sum, add(part.next, part.other)); }
};

constexpr unsigned kFlush = _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON;
thread_local unsigned mode_before;

constexpr cpu::Engine step_engine() {
  cpu::Engine e = engine<BF16StepMath>(128);  // as many quads as tiles take: sums are cut alike
  e.begin = flush_denormals, e.end = keep_denormals;
  return e;
}

}  // namespace

void flush_denormals() {
  mode_before = _mm_getcsr();
  _mm_setcsr(mode_before | kFlush);
}
void keep_denormals() { _mm_setcsr(mode_before); }

const cpu::Engine kBF16StepEngine = step_engine();

}  // namespace lowbit::avx512
