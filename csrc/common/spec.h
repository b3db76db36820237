// The format string of the ops, parsed.
//
//   spec    := block_format [ "@" layout ] | element [ ":" block ] [ "/" scale ] [ "@" layout ]
//   element := a name of formats.def            block_format := a name of blocks.def
//   block   := "tensor" | "row" | "g" N | "b" R "x" C        default "row"
//   scale   := element [ ":" block ]            the format of the scales, when they are codes themselves; their block
//                                               counts scales along K, default: they have no scale of their own
//   layout  := "canonical" | "plain" | "tile16" | "mma64"
//              default: canonical, or plain where the tensor has one code per byte
//
// "int4:g64" is 4-bit integers in groups of 64 with float scales; "uint2:g16/uint4:g16" has 4-bit scales, 16 of which
// share one float scale; "nvfp4" is "float4_e2m1fn:g16/float8_e4m3fn:tensor"; "float8_e4m3fn:b128x128" has one scale
// for a square of 128 x 128.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"
#include "formats/format.h"

namespace lowbit {

// Elements of the matrix under one scale; 0 means all rows (columns) of the matrix.
struct Block {
  int64_t rows = 1;
  int64_t cols = 0;

  // Scales along an axis of `n` elements.
  static constexpr int64_t count(int64_t n, int64_t block) { return block == 0 ? 1 : (n + block - 1) / block; }
  constexpr bool operator==(const Block& o) const { return rows == o.rows && cols == o.cols; }
};

// kCanonical, kTile16 and kMma64: formats/layout.h. kPlain: one code per byte, [rows, cols]; bits above the format's
// are ignored.
enum class Layout : uint8_t { kCanonical, kPlain, kTile16, kMma64 };

// Prepacked: whole tiles of 16 rows.
constexpr bool is_tiled(Layout l) { return l == Layout::kTile16 || l == Layout::kMma64; }

struct Spec {
  const ElementFormat* element = nullptr;
  const BlockFormat* named = nullptr;    // set when the string named a row of blocks.def
  Block block;                           // of the element's scales
  const ElementFormat* scale = nullptr;  // format of the scale codes; nullptr: float scales
  bool scale_has_scale = false;
  Block scale_block;  // of the scale's own scales, in scales
  float unit = 1.0f;  // element value = code value * unit
  Layout layout = Layout::kCanonical;
};

// Parses `text`; `op` and `argument` open the error sentence. A name that is nearly right is answered with the near
// one.
LOWBIT_EXPORT Status parse_spec(const char* op, const char* argument, std::string_view text, Spec* out);

// An element format by name, for arguments that take no block rule.
Status parse_element(const char* op, const char* argument, std::string_view text, const ElementFormat** out);

}  // namespace lowbit
