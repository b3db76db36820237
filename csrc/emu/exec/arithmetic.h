// What the arithmetic instructions share: their modifiers, and the ways from an opcode of many types (add, mul, min) to
// the file that implements one of them.
#pragma once

#include <cstdint>
#include <string>

#include "emu/exec/decoder.h"

namespace emu {

// Modifiers of arithmetic and conversion, as bits.
using ModifierSet = uint32_t;
inline constexpr ModifierSet kRn = 1u << 0, kRz = 1u << 1, kRm = 1u << 2, kRp = 1u << 3, kRna = 1u << 4, kRs = 1u << 5,
                             kRni = 1u << 6, kRzi = 1u << 7, kRmi = 1u << 8, kRpi = 1u << 9, kFtz = 1u << 10,
                             kSat = 1u << 11, kSatfinite = 1u << 12, kRelu = 1u << 13, kNan = 1u << 14,
                             kXorsign = 1u << 15, kAbs = 1u << 16, kCc = 1u << 17, kLo = 1u << 18, kHi = 1u << 19,
                             kWide = 1u << 20, kApprox = 1u << 21, kFull = 1u << 22, kOob = 1u << 23, kClamp = 1u << 24,
                             kWrap = 1u << 25, kShiftamt = 1u << 26;
inline constexpr ModifierSet kDirections = kRn | kRz | kRm | kRp;

struct Modifiers {
  ModifierSet set = 0;
  ptx::Type type = ptx::Type::kNone, type2 = ptx::Type::kNone;  // the first and second type named
  bool has(ModifierSet m) const { return (set & m) != 0; }
};

// Takes every modifier of the list above and up to two types; others stay for the Decoder to refuse.
Modifiers take_modifiers(Decoder& d);
// Refuses, by name, those of m that are not in `allowed`; m.type where `known` is false.
bool check_modifiers(Decoder& d, const Modifiers& m, ModifierSet allowed, bool known = true);
// Refuses a statement without exactly one (at most one where `required` is false) of `choice`.
bool check_choice(Decoder& d, const Modifiers& m, ModifierSet choice, bool required = true);
void fail_type(Decoder& d, ptx::Type type);

enum class Arithmetic : uint8_t { kAdd, kSub, kMul, kFma, kDiv, kMin, kMax, kAbs, kNeg, kRcp, kSqrt };

// add.cc, sub.cc, mad.cc (kFma): exec/carry.cpp
void decode_carry_out(Decoder& d, const Modifiers& m, Arithmetic op);
void decode_float(Decoder& d, const Modifiers& m, Arithmetic op);  // exec/float.cpp: f32, f32x2, f64
void decode_half(Decoder& d, const Modifiers& m, Arithmetic op);   // exec/half.cpp: f16, bf16 and their pairs

enum class Approximation : uint8_t { kRcp, kRsqrt, kSqrt, kDiv, kDivFull, kEx2, kLg2, kSin, kCos, kTanh };
void decode_approximation(Decoder& d, const Modifiers& m, Approximation f);  // exec/approximate.cpp

bool is_half(ptx::Type t);    // f16, f16x2, bf16, bf16x2
bool is_single(ptx::Type t);  // f32, f32x2, f64

}  // namespace emu
