// The parts of cvt.
#pragma once

#include "emu/exec/arithmetic.h"

namespace emu {

// Conversions between two integer types, and cvt.pack (exec/convert_integer.cpp). Modifiers are checked by the caller.
void decode_integer_conversion(Decoder& d, const Modifiers& m);
void decode_pack(Decoder& d);
// The handler of a conversion that inner loops are made of; null for the others (exec/convert_loops.cpp).
Instr::Handler conversion_loop(const Modifiers& m);

// Bits of the integer register that a conversion to `to` fills: a narrower value is extended to it.
int filled_bits(Decoder& d, ptx::Type to);

}  // namespace emu
