// How far a chain of mma.sync may be from the exact sum: what tests of kernels compare with.
//
// One sum of one block keeps, of each of its T products and of the accumulator, what lies above 2^(e - F), e the
// largest exponent: it loses less than (T + 1) 2^(e - F). Then it is rounded, by a relative u (f32 toward zero: 2^-23,
// stored to 13 bits: 2^-13; f16 to nearest: 2^-11) or by eta, the least subnormal. With M >= sum |a b| + |c| over the
// whole chain, and 2^e <= max(M + E, nominal) for every block (nominal never below the least exponent of the table), N
// blocks give
//     E <= N ((T + 1) 2^-F max(M + E, nominal) + u (M + E) + eta),
// which is solved for E. The exact model is one block an mma with nothing lost before it is rounded to nearest.
#pragma once

namespace emu {

struct ChainOfMma {
  int k = 16;            // of one mma
  int steps = 1;         // mma's that add to one accumulator
  bool half = false;     // f16 accumulator
  double magnitude = 0;  // M
  // The largest 2^(exponent of a + exponent of b), block scales included, where subnormal factors (which keep the least
  // normal exponent) or kind::mxf4* (whose sums of 16 have the exponent of their scales) make it larger than |a b|;
  // else 0.
  double nominal = 0;
};

// Infinite where the chain is too long for the formula to say anything.
double exact_error_bound(const ChainOfMma& chain);
struct TensorCore;
double aligned_error_bound(const ChainOfMma& chain, const TensorCore& core);

}  // namespace emu

// The same for tests: operand as name_of(MmaOperand), model "exact" or "hardware". Negative: no such operand or model.
extern "C" __attribute__((visibility("default"))) double emu_mma_error_bound(const char* arch, const char* operand,
                                                                             const char* model, int half, int k,
                                                                             int steps, double magnitude,
                                                                             double nominal);
