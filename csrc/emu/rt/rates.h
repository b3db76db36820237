// Published rates of the architectures, each per SM and clock: the one table behind every predicted bound.
#pragma once

#include <string>

#include "emu/exec/program.h"

namespace emu {

struct Rates {
  int arch;
  // lanes of ordinary instructions
  int float32, float16, float64, integer, convert, special, shuffle;
  // dense multiply-adds of mma.sync; 0: the architecture has no native instruction for it, or its rate is not published
  int f16_f32, f16_f16, tf32, f64, s8, s4, b1, fp8_f32, fp8_f16, fp4_f32;
};
inline constexpr int kIssuePerClock = 4;          // warp instructions: one a scheduler
inline constexpr int kSharedBytesPerClock = 128;  // one wavefront
inline constexpr int kSectorBytes = 32;

const Rates& rates(int arch);
// Lanes a clock of a class of instructions; 0: only the issue slot counts.
int lanes_per_clock(const Rates& r, Class c);
// Multiply-adds of one mma ("m16n8k32.s8.s8.s32") and the rate of its type; 0: not rated.
struct TensorRate {
  double multiply_adds = 0;  // of one warp-wide instruction
  int per_clock = 0;
};
TensorRate tensor_rate(const Rates& r, const std::string& tensor_name);

}  // namespace emu
