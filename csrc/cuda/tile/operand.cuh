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

// A matrix of codes in any layout.
struct CodeSource {
  CodeLayout codes;
  DeviceFormat format;
  const float* codebook = nullptr;
  bool mma64 = false, tile16 = false;
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
  }

  // Codes [c, c + n), n <= 16, of row r, one a byte, the rest 0.
  __device__ __forceinline__ void read(int64_t r, int64_t c, int n, uint32_t (&out)[4]) const {
    out[0] = out[1] = out[2] = out[3] = 0;
    if (n <= 0) return;
    const int bits = format.row.bits;
    const auto* bytes = static_cast<const uint8_t*>(codes.data);
    if (!mma64 && !tile16 && codes.kind == Canonical::kPlanes) {
      const int shift = static_cast<int>(c % 32);
      const auto* words = static_cast<const uint32_t*>(codes.data) + r * codes.row_stride + c / 32;
      for (int b = 0; b < bits; ++b, words += codes.plane_stride) {  // most significant plane first
        uint32_t w = words[0] >> shift;
        if (shift + n > 32) w |= words[1] << (32 - shift);
        if (n < 16) w &= (1u << n) - 1u;
#pragma unroll
        for (int i = 0; i < 4; ++i) {  // bit j of a nibble to bit 0 of byte j
          out[i] = out[i] << 1 | ((w >> (4 * i) & 15u) * 0x00204081u & 0x01010101u);
        }
      }
      return;
    }
    bytes += mma64 || tile16 ? 0 : r * codes.row_stride;
    const uint32_t mask = (1u << bits) - 1u;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      if (i < n) {
        uint32_t code;
        if (mma64) {
          code = mma64_get(bits, bytes, cols, r, c + i);
        } else if (tile16) {
          code = tile16_get(bits, bytes, cols, r, c + i);
        } else if (codes.kind == Canonical::kBytes) {
          code = bytes[c + i] & mask;
        } else if (codes.kind == Canonical::kPacked4) {
          code = bytes[(c + i) / 2] >> (4 * ((c + i) % 2)) & 15u;
        } else {
          code = canonical_get(Canonical::kPacked6, 6, bytes, 0, 0, 0, c + i);
        }
        out[i / 4] |= code << (8 * (i % 4));
      }
    }
  }
};

// Parts of a complex weight as a real matrix [[Re, -Im], [Im, Re]].
enum class Part : uint8_t { kReal, kMinusImaginary, kImaginary };

// x (quantized or dense) or w.
struct Operand {
  CodeSource low, high;                  // high: the wide groups of a mixed matrix
  const int32_t* high_groups = nullptr;  // device, ascending
  int32_t high_count = 0, group = 0;
  DeviceValues scale, scale_imaginary, zero;
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
  }

  __device__ __forceinline__ Part part(int32_t r, int32_t c) const {
    const bool lower = r >= rows / 2, right = c >= cols / 2;
    return lower == right ? Part::kReal : right ? Part::kMinusImaginary : Part::kImaginary;
  }
  // Scale of (r, c), 1 where there is none; without 2^-shift.
  __device__ __forceinline__ float scale_at(int32_t r, int32_t c) const {
    if (scale.data == nullptr) return 1.0f;
    if (is_complex) {
      const bool imaginary = part(r, c) != Part::kReal;
      const DeviceValues& s = imaginary && scale_imaginary.data != nullptr ? scale_imaginary : scale;
      return s.at(r % (rows / 2), c % (cols / 2));
    }
    return scale.at(r, c);
  }
  __device__ __forceinline__ float zero_at(int32_t r, int32_t c) const { return has_zero ? zero.at(r, c) : 0.0f; }
  __device__ __forceinline__ int32_t integer_zero_at(int32_t r, int32_t c) const {
    if (!has_zero || zero_is_float) return 0;
    const int64_t at = zero.row_of(r) * zero.row_stride + zero.col_of(c) * zero.col_stride;
    return zero.dtype == DType::kI32  ? static_cast<const int32_t*>(zero.data)[at]
           : zero.dtype == DType::kI8 ? static_cast<const int8_t*>(zero.data)[at]
                                      : static_cast<const uint8_t*>(zero.data)[at];
  }

  // Codes of columns [c, c + n), which lie in one segment. `source`: 0 low, 1 high.
  __device__ __forceinline__ int read(int32_t r, int32_t c, int n, uint32_t (&out)[4]) const {
    if (is_complex) {
      low.read(r % (rows / 2), c % (cols / 2), n, out);
      return 0;
    }
    if (high_groups == nullptr) {
      low.read(r, c, n, out);
      return 0;
    }
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
    const int32_t at = (wide ? begin : g - begin) * group + c % group;
    (wide ? high : low).read(r, at, n, out);
    return wide ? 1 : 0;
  }
};

// The value of a code; complex: its real (imaginary) part as a number.
__device__ __forceinline__ float value_of(const CodeSource& s, uint32_t code) {
  return decode_one(s.format, code, s.codebook);
}
__device__ __forceinline__ int complex_part(uint32_t code, Part part) {
  const int sign = code >= 2 ? -1 : 1;
  if (part == Part::kReal) return code & 1u ? 0 : sign;
  return code & 1u ? (part == Part::kImaginary ? sign : -sign) : 0;
}

}  // namespace lowbit::cuda
