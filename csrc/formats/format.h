// Element formats as data: formats.def and blocks.def expanded to two constexpr tables, and what follows from a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lowbit {

enum class Kind : uint8_t { kInt, kFloat, kTable, kCodebook };
enum IntRule : uint8_t { kSigned, kUnsigned, kBipolar, kTernary, kComplex };
enum Specials : uint8_t { kFinite, kNanOnly, kIeee, kPower };
enum Tie : uint8_t { kTiesToEven, kTiesDown };
enum Overflow : uint8_t { kSaturate };
enum ScaleRule : uint8_t { kPowerFloor, kTwoLevel };

// One row of formats.def. Fields that a kind does not use are zero.
struct ElementFormat {
  const char* name;
  Kind kind;
  uint8_t bits;
  IntRule rule;
  uint8_t exponent;
  uint8_t mantissa;
  int16_t bias;
  Specials specials;
  Tie tie;
  Overflow overflow;
  const float* values;  // 2^bits ascending values of a kTable

  constexpr int codes() const { return 1 << bits; }
  constexpr bool is_int() const { return kind == Kind::kInt; }
  constexpr bool is_float() const { return kind == Kind::kFloat; }
  constexpr bool is_table() const { return kind == Kind::kTable || kind == Kind::kCodebook; }
  constexpr bool is_complex() const { return is_int() && rule == kComplex; }
  constexpr bool has_sign() const { return is_float() && bits == 1 + exponent + mantissa; }
};

namespace format_detail {
#define LOWBIT_TABLE(name, bits, tie, overflow, ...) inline constexpr float k_##name[] = {__VA_ARGS__};
#include "formats/formats.def"
}  // namespace format_detail

inline constexpr ElementFormat kFormats[] = {
#define LOWBIT_INT(name, bits, rule, tie, overflow) \
  {#name, Kind::kInt, bits, rule, 0, 0, 0, kFinite, tie, overflow, nullptr},
#define LOWBIT_FLOAT(name, bits, exponent, mantissa, bias, specials, tie, overflow) \
  {#name, Kind::kFloat, bits, kSigned, exponent, mantissa, bias, specials, tie, overflow, nullptr},
#define LOWBIT_TABLE(name, bits, tie, overflow, ...) \
  {#name, Kind::kTable, bits, kSigned, 0, 0, 0, kFinite, tie, overflow, format_detail::k_##name},
#define LOWBIT_CODEBOOK(name, bits) \
  {#name, Kind::kCodebook, bits, kSigned, 0, 0, 0, kFinite, kTiesDown, kSaturate, nullptr},
#include "formats/formats.def"
};
inline constexpr int kFormatCount = static_cast<int>(sizeof(kFormats) / sizeof(kFormats[0]));

// The format called `name`, or nullptr. Rows live for ever: formats are compared by address.
constexpr const ElementFormat* find_format(std::string_view name) {
  for (const ElementFormat& f : kFormats) {
    if (name == f.name) return &f;
  }
  return nullptr;
}

// One row of blocks.def.
struct BlockFormat {
  const char* name;
  const ElementFormat* element;
  int block;
  const ElementFormat* scale;
  int scale_block;
  ScaleRule scale_rule;
  float unit;
};

namespace format_detail {
constexpr const ElementFormat* row(std::string_view name) { return find_format(name); }
}  // namespace format_detail

inline constexpr BlockFormat kBlocks[] = {
#define LOWBIT_BLOCK(name, element, block, scale, scale_block, scale_rule, unit) \
  {#name, format_detail::row(#element), block, format_detail::row(#scale), scale_block, scale_rule, unit},
#include "formats/blocks.def"
};
inline constexpr int kBlockCount = static_cast<int>(sizeof(kBlocks) / sizeof(kBlocks[0]));

constexpr const BlockFormat* find_block(std::string_view name) {
  for (const BlockFormat& b : kBlocks) {
    if (name == b.name) return &b;
  }
  return nullptr;
}

}  // namespace lowbit
