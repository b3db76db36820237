// Decoders of the element formats by table: the entry of every code, in the numbers that kernels multiply.
#pragma once

#include "formats/codec.h"

namespace lowbit::cpu {

// Formats that are exact in int8 (shift >= 0), as two kinds of bytes:
//   value * 2^shift = factor * u8[c] - offset = factor * s8[c] + s8_offset
// Codes above the format's repeat: entries may be read with any byte.
struct CodeTables {
  alignas(64) uint8_t u8[256];
  alignas(64) int8_t s8[256];
  alignas(64) uint16_t bf16[256];
  alignas(64) float f32[256];
  alignas(64) uint16_t f32_high[256], f32_low[256];  // the two halves of f32
  int32_t shift;
  int32_t offset, s8_offset, factor;
  int32_t u8_flip, u8_shift;  // u8[c] = (c ^ u8_flip) << u8_shift for every code; u8_flip -1: no such numbers
  bool has_low;               // whether any of f32_low is not 0
  int32_t low, high;          // least and largest value * 2^shift
  // Finite values are multiples of 2^powers_low, below 2^powers_high in magnitude; not of codebooks.
  int32_t powers_low, powers_high;
  // Signed floats of 8 bits with at most 4 of mantissa: the bf16 magnitudes of codes whose exponent field is all zeros
  // or all ones, by their low 5 bits.
  bool has_borders;
  alignas(64) uint16_t borders[32];
};

// The tables of `f`, which is not a codebook; made once, they live for ever. nullptr when memory is short.
const CodeTables* code_tables(const ElementFormat& f);

// The same of a format that is exact in int8, with the integers value * 2^shift for values in the float tables.
const CodeTables* integer_tables(const ElementFormat& f);

// The float tables of a codebook.
void fill_codebook(const ElementFormat& f, const float* values, CodeTables* tables);

}  // namespace lowbit::cpu
