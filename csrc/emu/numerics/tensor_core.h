// How tensor cores add, as published measurements have it. Products of one block of k and the accumulator are aligned
// to the largest exponent among them, each is truncated to `fraction` bits below that exponent, the sum of what is left
// is exact and is rounded to the accumulator type: toward zero to f32, to nearest even to f16. Exponents are those of
// the factors added (a product in [2, 4) is not normalized). Blocks are chained through the accumulator type.
#pragma once

#include <cstdint>

namespace emu {

enum class MmaOperand : uint8_t { kF16, kBF16, kTF32, kF8, kF8F6F4, kMxF8F6F4, kMxF4 };
const char* name_of(MmaOperand operand);

struct TensorCore {
  int arch;  // from this architecture on, until the next row of the operand
  MmaOperand operand;
  int terms;            // products of one aligned sum, at most
  int fraction;         // bits kept below the largest exponent
  int result_fraction;  // stored fraction bits of an f32 result: 23, or 13 (the low ten are zero)
  int group;            // products that are added exactly before alignment, one scale for all of them
  int least_f32;        // terms are aligned to this exponent where all are smaller (that of a zero accumulator), by the
  int least_f16;        // type of the accumulator
  // FP8 without FP8 tensor cores: ptxas makes fp16 of it, the bytes 0 and 1 of each register in a first HMMA, 2 and 3
  // in a second one, both from zero; the accumulator is added last in IEEE arithmetic.
  bool through_half;
  bool order_known;  // false: which products share a block is the compiler's choice, so k is permuted by seed
  const char* source;
};

const TensorCore& tensor_core(int arch, MmaOperand operand);
extern const TensorCore kTensorCores[];
extern const int kTensorCoreCount;

}  // namespace emu
