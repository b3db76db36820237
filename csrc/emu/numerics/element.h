// Element formats of mma operands as exact doubles.
#pragma once

#include <cstdint>

#include "emu/ptx/module.h"

namespace emu {

// A binary floating-point format inside a container of 8, 16 or 32 bits.
struct Element {
  uint32_t magnitude;  // bits of exponent and mantissa within the container
  uint32_t sign;       // the sign bit, 0 if there is none
  int shift;           // magnitude << shift has its exponent where a float has it
  int bias;
  int mantissa;       // stored bits
  uint32_t infinity;  // the magnitude that means infinity; 0 if none does
  uint32_t nan;       // magnitudes from here on are NaN; 0 if none is
  int container;      // bits
  int min_exponent() const { return 1 - bias; }
};

// What is in a tile: exponents e with 2^e <= |x| < 2^(e+1).
struct Spread {
  int high = kNone;      // the largest exponent of the tile; kNone: all zero
  int low = -kNone;      // all elements are multiples of 2^low
  bool special = false;  // some element is infinite or NaN
  static constexpr int kNone = -100000;
};

// e2m1 `padded`: in the bits 5:2 of a byte, as kind::f8f6f4 has it; not padded: in the bits 3:0.
const Element& element_of(ptx::Type type, bool padded_e2m1);

// `count` elements (a multiple of 8, at most 1024) from containers that follow each other.
Spread decode(const Element& element, const void* containers, int count, double* out);
// Two e2m1 a byte, the low half first: 2 * bytes elements.
Spread decode_e2m1_pairs(const uint8_t* bytes, int count, double* out);

double decode_ue8m0(uint8_t bits);  // 2^(bits - 127), 255 is NaN
double decode_ue4m3(uint8_t bits);  // 7 bits; 127 is NaN

}  // namespace emu
