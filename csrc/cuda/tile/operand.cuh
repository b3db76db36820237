// One operand of a GEMM as a kernel parameter: QMatrix (common/qmatrix.h) or a dense matrix, and reads of sixteen
// consecutive columns of a row, which serve every layout.
//
// Byte products multiply bytes b with value * 2^shift = factor * b - offset, b in -128 .. 127:
//   codes whose values fit a signed byte          factor 1, offset 0
//   unsigned 8-bit integers                       b = code - 128, factor 1, offset -128
//   bipolar 8-bit integers (odd, +-255)           b = code - 128, factor 2, offset -1
#pragma once

#include <cstdint>

#include "common/qmatrix.h"
#include "cuda/tile/blocks.cuh"
#include "cuda/tile/value_window.cuh"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

struct ByteMap {
  int shift = 0, factor = 1, offset = 0;
};

inline ByteMap byte_map(const ElementFormat& f) {
  ByteMap m;
  if (f.is_complex()) return m;
  m.shift = int8_shift(f) < 0 ? 0 : int8_shift(f);
  if (f.is_int() && f.bits == 8 && f.rule == kUnsigned) m.offset = -128;
  if (f.is_int() && f.bits == 8 && f.rule == kBipolar) m.factor = 2, m.offset = -1;
  return m;
}

// Sixteen codes, one a byte, and which of the two matrices of mixed widths they come from. By value: what functions
// that are not inlined pass by reference lies in local memory.
struct Codes16 {
  uint32_t word[4] = {0, 0, 0, 0};
  int source = 0;

  // Bit i of `plane` becomes the lowest bit of code i < n.
  __device__ __forceinline__ void push_plane(uint32_t plane, int n) {
    if (n < 16) plane &= (1u << n) - 1u;
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // bit j of a nibble to bit 0 of byte j
      word[i] = word[i] << 1 | ((plane >> (4 * i) & 15u) * 0x00204081u & 0x01010101u);
    }
  }
};

// A matrix of codes in any layout.
struct CodeSource {
  CodeLayout codes;
  DeviceFormat format;
  const float* codebook = nullptr;
  bool mma64 = false, tile16 = false;
  bool aligned = false;  // to 16 bytes: rows of bytes or packed codes, tiles
  int64_t cols = 0;

  CodeSource() = default;
  explicit CodeSource(const Codes& c)
      : codes(c.layout == Layout::kPlain || c.layout == Layout::kCanonical ? CodeLayout::of(c) : CodeLayout()),
        format(*c.format),
        codebook(c.codebook),
        mma64(c.layout == Layout::kMma64),
        tile16(c.layout == Layout::kTile16),
        cols(c.cols) {
    codes.data = const_cast<void*>(c.data);
    aligned = reinterpret_cast<uintptr_t>(c.data) % 16 == 0 && codes.row_stride % 16 == 0;
  }
  bool has_planes() const { return !mma64 && !tile16 && codes.kind == Canonical::kPlanes; }

  // Codes [c, c + n), n <= 16, of row r, the rest 0.
  __device__ __forceinline__ Codes16 read(int64_t r, int64_t c, int n) const {
    Codes16 out;
    if (n <= 0) return out;
    const int bits = format.row.bits;
    const auto* bytes = static_cast<const uint8_t*>(codes.data);
    if (!mma64 && !tile16 && codes.kind == Canonical::kPlanes) {
      const int shift = static_cast<int>(c % 32);
      const auto* words = static_cast<const uint32_t*>(codes.data) + r * codes.row_stride + c / 32;
#pragma unroll 1
      for (int b = 0; b < bits; ++b, words += codes.plane_stride) {  // most significant plane first
        uint32_t w = words[0] >> shift;
        if (shift + n > 32) w |= words[1] << (32 - shift);
        out.push_plane(w, n);
      }
      return out;
    }
    if (tile16 && aligned && n == 16 && c % 16 == 0 && bits % 4 == 0) {  // four tiles side by side, a word of each
      const int64_t tile = r / kTileRows * ((cols + kTileCols - 1) / kTileCols) + c / kTileCols;
      const auto* words = reinterpret_cast<const uint32_t*>(bytes) + tile * (2 * bits);
      const int row = static_cast<int>(r % kTileRows);
#pragma unroll
      for (int i = 0; i < 4; ++i, words += 2 * bits) {
        if (bits == 8) {
          out.word[i] = words[row];
        } else {  // byte b: bits b of this row and its neighbour
          const uint32_t w = words[row / 2] >> (row % 2 * 4);
#pragma unroll
          for (int b = 0; b < 4; ++b) out.word[i] |= ((w >> (8 * b) & 15u) * 0x00204081u & 0x01010101u) << b;
        }
      }
      return out;
    }
    if (aligned && n == 16 && c % 16 == 0 && !mma64 && !tile16 && codes.kind == Canonical::kBytes) {
      const uint4 v = *reinterpret_cast<const uint4*>(bytes + r * codes.row_stride + c);
      const uint32_t mask = ((1u << bits) - 1u) * 0x01010101u;
      out.word[0] = v.x & mask, out.word[1] = v.y & mask, out.word[2] = v.z & mask, out.word[3] = v.w & mask;
      return out;
    }
    if (codes.wide && n == 16 && c % 16 == 0 && !mma64 && !tile16 && codes.kind != Canonical::kPacked6) {
      const bool packed = codes.kind == Canonical::kPacked4;
      const auto* from = reinterpret_cast<const uint32_t*>(bytes + r * codes.row_stride + (packed ? c / 2 : c));
      if (packed) {
        uint32_t half[2];
        if (aligned) {
          const uint2 v = *reinterpret_cast<const uint2*>(from);
          half[0] = v.x, half[1] = v.y;
        } else {
          half[0] = from[0], half[1] = from[1];
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const uint32_t even = half[i] & 0x0f0f0f0fu, odd = half[i] >> 4 & 0x0f0f0f0fu;
          out.word[2 * i] = ptx::prmt(even, odd, 0x5140u);
          out.word[2 * i + 1] = ptx::prmt(even, odd, 0x7362u);
        }
      } else {
        const uint32_t mask = ((1u << bits) - 1u) * 0x01010101u;
        const auto* two = reinterpret_cast<const uint2*>(from);
        const uint2 v = two[0], w = two[1];
        out.word[0] = v.x & mask, out.word[1] = v.y & mask, out.word[2] = w.x & mask, out.word[3] = w.y & mask;
      }
      return out;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll 1
      for (int j = 0; j < 4 && 4 * i + j < n; ++j) {
        const int64_t at = c + 4 * i + j;
        const uint32_t code = mma64    ? mma64_get(bits, bytes, cols, r, at)
                              : tile16 ? tile16_get(bits, bytes, cols, r, at)
                                       : codes.get(r, at);
        out.word[i] |= code << (8 * j);
      }
    }
    return out;
  }
};

// Parts of a complex weight as a real matrix [[Re, -Im], [Im, Re]].
enum class Part : uint8_t { kReal, kMinusImaginary, kImaginary };

// How scales are read. All but kOther: by a few instructions that stand in the loop. kCoded: minifloats of one byte
// (powers of two among them), which are computed: lanes that looked them up in a table would meet in its banks.
enum class ScaleKind : uint8_t { kNone, kFloat32, kBFloat16, kHalf, kCoded, kOther };

inline ScaleKind scale_kind_of(const DeviceValues& v, bool is_complex) {
  if (v.data == nullptr) return ScaleKind::kNone;
  if (is_complex || (v.has_second && v.second_dtype != DType::kF32)) return ScaleKind::kOther;
  if (v.coded) {
    return v.codes.kind == Canonical::kBytes && v.format.row.is_float() ? ScaleKind::kCoded : ScaleKind::kOther;
  }
  switch (v.dtype) {
    case DType::kF32: return ScaleKind::kFloat32;
    case DType::kBF16: return ScaleKind::kBFloat16;
    case DType::kF16: return ScaleKind::kHalf;
    default: return ScaleKind::kOther;
  }
}

// x (quantized or dense) or w.
struct Operand {
  CodeSource low, high;                  // high: the wide groups of a mixed matrix
  const int32_t* high_groups = nullptr;  // device, ascending
  int32_t high_count = 0, group = 0;
  DeviceValues scale, scale_imaginary, zero;
  ScaleKind scale_kind = ScaleKind::kNone;
  ValueWindow scale_window, zero_window;
  bool has_zero = false, zero_is_float = false, is_complex = false;
  Matrix dense;  // data == nullptr: codes
  bool dense_aligned = false;
  int32_t rows = 0, cols = 0;  // as the product sees them (complex: of the real matrix)
  ByteMap bytes;

  Operand() = default;
  explicit Operand(const Matrix& m) : dense(m), rows(static_cast<int32_t>(m.rows)), cols(static_cast<int32_t>(m.cols)) {
    dense_aligned =
        m.col_stride == 1 && reinterpret_cast<uintptr_t>(m.data) % 16 == 0 && m.row_stride * size_of(m.dtype) % 16 == 0;
  }
  Operand(const QMatrix& q, int64_t row_count)
      : low(q.codes),
        scale(q.scale),
        scale_imaginary(q.scale_imaginary),
        zero(q.zero),
        rows(static_cast<int32_t>(row_count)),
        cols(static_cast<int32_t>(q.cols)),
        bytes(byte_map(*q.codes.format)) {
    has_zero = static_cast<bool>(q.zero);
    zero_is_float = has_zero && (q.zero.codes.format != nullptr || q.zero.dtype == DType::kF32 ||
                                 q.zero.dtype == DType::kBF16 || q.zero.dtype == DType::kF16);
    if (q.high != nullptr) {
      high = CodeSource(*q.high);
      high_groups = q.high_groups;
      high_count = static_cast<int32_t>(q.high_count);
      group = static_cast<int32_t>(q.group);
    }
    if (q.codes.format->is_complex()) {
      is_complex = true;
      rows *= 2, cols *= 2;
    }
    scale_kind = scale_kind_of(scale, is_complex);
    if (scale_kind != ScaleKind::kOther) scale_window = ValueWindow(scale, cols);
    if (!is_complex && !zero.has_second && !zero.coded) zero_window = ValueWindow(zero, cols);
  }

  __device__ __forceinline__ Part part(int32_t r, int32_t c) const {
    const bool lower = r >= rows / 2, right = c >= cols / 2;
    return lower == right ? Part::kReal : right ? Part::kMinusImaginary : Part::kImaginary;
  }
  // Scale of (r, c), 1 where there is none; without 2^-shift. Steps: bytes to the values of an expert.
  __device__ __noinline__ float scale_at(int32_t r, int32_t c, int64_t step = 0, int64_t second_step = 0) const {
    if (scale.data == nullptr) return 1.0f;
    DeviceValues s = scale;
    if (is_complex) {
      if (part(r, c) != Part::kReal && scale_imaginary.data != nullptr) s = scale_imaginary;
      r %= rows / 2, c %= cols / 2;
    }
    s.data = static_cast<const uint8_t*>(s.data) + step;
    s.codes.data = static_cast<uint8_t*>(s.codes.data) + step;
    s.second = static_cast<const uint8_t*>(s.second) + second_step;
    return s.at(r, c);
  }
  // The same for the common kinds in place.
  __device__ __forceinline__ float scale_from(int32_t r, int32_t c, int64_t step = 0, int64_t second_step = 0) const {
    if (scale_kind == ScaleKind::kNone) return 1.0f;
    if (scale_kind == ScaleKind::kOther) return scale_at(r, c, step, second_step);
    const int64_t i = scale.block_rows(r), j = scale.block_cols(c);
    const auto* base = static_cast<const uint8_t*>(scale.data) + step;
    uint32_t stored;
    if (scale.coded) {
      stored = base[i * scale.codes.row_stride + j];
    } else {
      const int64_t at = i * scale.row_stride + j * scale.col_stride;
      stored = scale_kind == ScaleKind::kFloat32 ? reinterpret_cast<const uint32_t*>(base)[at]
                                                 : reinterpret_cast<const uint16_t*>(base)[at];
    }
    return scale_of(stored, r, c, second_step);
  }
  // From what is stored for (r, c), in the low bits of a word; not of kNone and kOther.
  __device__ __forceinline__ float scale_of(uint32_t stored, int32_t r, int32_t c, int64_t second_step) const {
    float v;
    if (scale_kind == ScaleKind::kFloat32) {
      v = from_bits(stored);
    } else if (scale_kind == ScaleKind::kBFloat16) {
      v = bf16_value(stored);
    } else if (scale_kind == ScaleKind::kHalf) {
      v = f16_value(stored & 0xffffu);
    } else {
      v = minifloat_value(scale.format.row, stored & 0xffu);
    }
    if (scale.has_second) {
      const auto* second = reinterpret_cast<const float*>(static_cast<const uint8_t*>(scale.second) + second_step);
      const int32_t i = scale.block_rows(r), j = scale.block_cols(c);
      v *= second[scale.second_rows(i) * scale.second_row_stride + scale.second_cols(j) * scale.second_col_stride] *
           scale.second_unit;
    }
    return v * scale.unit;
  }
  // Of block-scaled multiplies: the codes of `count` blocks from the one of column c on, a byte each from the low end
  // up, 0 past the last, and what the values of codes are multiplied with beside.
  __device__ __forceinline__ uint32_t scale_codes(int32_t r, int32_t c, int count, int64_t step = 0) const {
    const int32_t j = scale.block_cols(c), blocks = (cols + scale.block_cols.size - 1) / scale.block_cols.size;
    const auto* from =
        static_cast<const uint8_t*>(scale.data) + step + scale.block_rows(r) * scale.codes.row_stride + j;
    uint32_t codes = 0;
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      if (b < count && j + b < blocks) codes |= static_cast<uint32_t>(from[b]) << (8 * b);
    }
    return codes;
  }
  __device__ __forceinline__ float scale_of_codes(int32_t r, int64_t second_step = 0) const {
    if (!scale.has_second) return scale.unit;
    const auto* second = reinterpret_cast<const float*>(static_cast<const uint8_t*>(scale.second) + second_step);
    return second[scale.second_rows(scale.block_rows(r)) * scale.second_row_stride] * scale.second_unit * scale.unit;
  }
  __device__ __noinline__ float zero_at(int32_t r, int32_t c, int64_t step = 0) const {
    if (!has_zero) return 0.0f;
    DeviceValues z = zero;
    z.data = static_cast<const uint8_t*>(z.data) + step;
    z.codes.data = static_cast<uint8_t*>(z.codes.data) + step;
    return z.at(r, c);
  }
  __device__ __forceinline__ int32_t integer_zero_at(int32_t r, int32_t c, int64_t step = 0) const {
    if (!has_zero || zero_is_float) return 0;
    const int64_t at = zero.block_rows(r) * zero.row_stride + zero.block_cols(c) * zero.col_stride;
    const auto* base = static_cast<const uint8_t*>(zero.data) + step;
    return zero.dtype == DType::kI32  ? reinterpret_cast<const int32_t*>(base)[at]
           : zero.dtype == DType::kI8 ? reinterpret_cast<const int8_t*>(base)[at]
                                      : base[at];
  }

  // From what is stored, in the low bits of a word.
  __device__ __forceinline__ float zero_of(uint32_t stored) const {
    return value_of_bits(stored, zero.dtype) * zero.unit;
  }
  __device__ __forceinline__ int32_t integer_zero_of(uint32_t stored) const {
    if (zero_is_float) return 0;
    return zero.dtype == DType::kI32  ? static_cast<int32_t>(stored)
           : zero.dtype == DType::kI8 ? static_cast<int8_t>(stored)
                                      : static_cast<int32_t>(stored & 0xffu);
  }

  // Codes of columns [c, c + n), which lie in one segment; 0 from low, 1 from high.
  // Not inlined: one copy of all layouts a translation unit. `step`: bytes to the codes of an expert.
  __device__ __noinline__ Codes16 read(int32_t r, int32_t c, int n, int64_t step) const {
    if (is_complex) r %= rows / 2, c %= cols / 2;
    CodeSource source = low;
    int which = 0;
    if (high_groups != nullptr) {
      const Column at = column_of(c);
      c = at.column, which = at.source;
      if (which) source = high;
    }
    source.codes.data = static_cast<uint8_t*>(source.codes.data) + step;
    source.codes.wide = source.codes.wide && step % 8 == 0;
    source.aligned = source.aligned && step % 16 == 0;
    Codes16 out = source.read(r, c, n);
    out.source = which;
    return out;
  }
  // Which matrix of mixed widths has column c, and where.
  struct Column {
    int32_t column;
    int source;
  };
  __device__ __forceinline__ Column column_of(int32_t c) const {
    const int32_t g = c / group;
    int32_t begin = 0, end = high_count;  // the first wide group that is not below g
    while (begin < end) {
      const int32_t middle = (begin + end) / 2;
      if (high_groups[middle] < g) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    const bool wide = begin < high_count && high_groups[begin] == g;
    return {(wide ? begin : g - begin) * group + c % group, wide};
  }
};

// The value of a code; complex: its real (imaginary) part as a number.
__device__ __noinline__ inline float value_of(const CodeSource& s, uint32_t code) {
  return decode_one(s.format, code, s.codebook);
}
__device__ __forceinline__ int complex_part(uint32_t code, Part part) {
  const int sign = code >= 2 ? -1 : 1;
  if (part == Part::kReal) return code & 1u ? 0 : sign;
  return code & 1u ? (part == Part::kImaginary ? sign : -sign) : 0;
}

}  // namespace lowbit::cuda
