// Rows in and out of the GEMM engines: unpacking codes of every layout, table lookups, conversions, transposes, the
// store of the result.
#include <immintrin.h>

#include <cstring>

#include "cpu/avx512/decode.h"
#include "cpu/avx512/gemm_common.h"

namespace lowbit::avx512 {
namespace {

__mmask64 mask64(int64_t n) { return n >= 64 ? ~__mmask64{0} : n <= 0 ? 0 : ~__mmask64{0} >> (64 - n); }
__mmask16 mask16(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : 0xffff >> (16 - n)); }

// 64 bits from bit `c` of a row of `bytes` bytes; bits past the end are 0.
uint64_t load_bits(const uint8_t* row, int64_t bytes, int64_t c) {
  const int64_t at = c / 8, rest = bytes - at;
  uint64_t low = 0;
  uint64_t high = 0;
  std::memcpy(&low, row + at, rest >= 8 ? 8 : static_cast<size_t>(rest > 0 ? rest : 0));
  const int shift = static_cast<int>(c % 8);
  if (shift == 0) return low;
  if (rest > 8) high = row[at + 8];
  return low >> shift | high << (64 - shift);
}

// 64 codes of row r from column c; what lies past the row is 0.
__m512i unpack64(const Codes& codes, int64_t r, int64_t c) {
  const int bits = codes.format->bits;
  if (codes.layout == Layout::kPlain) {
    const auto* p = static_cast<const uint8_t*>(codes.data) + r * codes.row_stride + c;
    const __m512i v = _mm512_maskz_loadu_epi8(mask64(codes.cols - c), p);
    return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>((1 << bits) - 1)));
  }
  const Canonical kind = !codes.format->is_float() ? Canonical::kPlanes
                         : bits == 8               ? Canonical::kBytes
                         : bits == 6               ? Canonical::kPacked6
                         : bits == 4               ? Canonical::kPacked4
                                                   : Canonical::kPlanes;
  const auto* row = static_cast<const uint8_t*>(codes.data) + r * codes.row_stride;
  switch (kind) {
    case Canonical::kPlanes: {
      const auto* plane = static_cast<const uint8_t*>(codes.data) + 4 * r * codes.row_stride;
      const int64_t bytes = (codes.cols + 31) / 32 * 4;
      __m512i v = _mm512_setzero_si512();
      const __m512i one = _mm512_set1_epi8(1);
      for (int b = 0; b < bits; ++b, plane += 4 * codes.plane_stride) {
        v = _mm512_add_epi8(v, v);
        v = _mm512_mask_add_epi8(v, _cvtu64_mask64(load_bits(plane, bytes, c)), v, one);
      }
      return v;
    }
    case Canonical::kBytes: return _mm512_maskz_loadu_epi8(mask64(codes.cols - c), row + c);
    case Canonical::kPacked4: {
      const bool odd = (c & 1) != 0;  // then the first code is a high half: take 33 bytes
      const int64_t bytes = (codes.cols + 1) / 2 - c / 2;
      const __m512i raw = _mm512_maskz_loadu_epi8(mask64(bytes < 33 ? bytes : 33), row + c / 2);
      const auto widen = [](__m512i x) { return _mm512_cvtepu8_epi16(_mm512_castsi512_si256(x)); };
      const __m512i w = widen(raw);
      if (!odd) {
        return _mm512_and_si512(_mm512_or_si512(w, _mm512_slli_epi16(w, 4)), _mm512_set1_epi8(15));
      }
      alignas(64) static const uint8_t next[64] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                                   17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32};
      const __m512i w1 = widen(_mm512_permutexvar_epi8(_mm512_load_si512(next), raw));
      return _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi16(w, 4), _mm512_slli_epi16(w1, 8)), _mm512_set1_epi8(15));
    }
    default: {  // kPacked6: from an element that starts a 24-bit word
      const int64_t start = c % 4;
      const int64_t at = c / 4 * 3, bytes = (codes.cols + 3) / 4 * 3 - at;
      const __m512i raw = _mm512_maskz_loadu_epi8(mask64(bytes < 51 ? bytes : 51), row + at);
      // lane i of 8 bytes: bytes 6 i .. 6 i + 7, fields of 6 bits from bit 6 * start
      alignas(64) uint8_t index[64];
      alignas(64) uint8_t shift[64];
      for (int i = 0; i < 64; ++i) {
        const int64_t bit = 6 * (start + i);
        index[i] = static_cast<uint8_t>(6 * (i / 8) + i % 8);
        shift[i] = static_cast<uint8_t>(bit - 48 * (i / 8));
      }
      const __m512i control = _mm512_load_si512(shift), spread = _mm512_load_si512(index);
      if (start == 0) {
        const __m512i lanes = _mm512_permutexvar_epi8(spread, raw);
        return _mm512_and_si512(_mm512_multishift_epi64_epi8(control, lanes), _mm512_set1_epi8(63));
      }
      alignas(64) uint8_t bytes64[64];
      alignas(64) uint8_t out[64];
      _mm512_store_si512(bytes64, raw);
      for (int i = 0; i < 64; ++i) {
        const int64_t bit = 6 * (start + i), b = bit / 8;
        const uint32_t two = bytes64[b] | static_cast<uint32_t>(b + 1 < 64 ? bytes64[b + 1] : 0) << 8;
        out[i] = static_cast<uint8_t>(two >> (bit % 8) & 63u);
      }
      return _mm512_load_si512(out);
    }
  }
}

template <int kBits>
void unpack_tile_row(const Codes& codes, int64_t r, int64_t c, int64_t n, uint8_t* out) {
  const TileDecoder<kBits> decoder;
  const int64_t quads = (codes.cols + 3) / 4;
  const auto* tiles = static_cast<const uint8_t*>(codes.data) + r / 16 * quads * 8 * kBits;
  alignas(64) uint8_t tile[64];
  int64_t done = 0;
  while (done < n) {
    const int64_t q = (c + done) / 4, in = (c + done) % 4;
    _mm512_store_si512(tile, decoder(tiles + q * 8 * kBits, false));
    const int64_t take = 4 - in < n - done ? 4 - in : n - done;
    std::memcpy(out + done, tile + 4 * (r % 16) + in, static_cast<size_t>(take));
    done += take;
  }
}

// 16 x 16 numbers of 32 bits.
void transpose16(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    v[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    v[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    v[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

void lookup8(const uint8_t* codes, int64_t n, const int8_t* table, int8_t* out) {
  const ByteTable<8> lookup(table);
  for (int64_t i = 0; i < n; i += 64) {
    const __mmask64 m = mask64(n - i);
    _mm512_mask_storeu_epi8(out + i, m, lookup(_mm512_maskz_loadu_epi8(m, codes + i)));
  }
}

void lookup32(const uint8_t* codes, int64_t n, const float* table, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = mask16(n - i);
    const __m512i c = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, codes + i));
    _mm512_mask_storeu_ps(out + i, m, _mm512_i32gather_ps(c, table, 4));
  }
}

// 16 numbers as 32 bits: floats widened to fp32, integers to int32.
__m512i load16(const void* in, DType type, int64_t i, __mmask16 m) {
  switch (type) {
    case DType::kBF16:
      return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(in) + i)),
                               16);
    case DType::kF16:
      return _mm512_castps_si512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(in) + i)));
    case DType::kI8: return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, static_cast<const int8_t*>(in) + i));
    case DType::kU8: return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, static_cast<const uint8_t*>(in) + i));
    default: return _mm512_maskz_loadu_epi32(m, static_cast<const uint32_t*>(in) + i);
  }
}

void to_float(const void* in, DType type, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = mask16(n - i);
    _mm512_mask_storeu_epi32(out + i, m, load16(in, type, i, m));
  }
}

// vcvtneps2bf16 flushes denormals, so the rounding is done in integers. NaN stays a quiet NaN.
__m256i round_bf16(__m512 v) {
  const __m512i b = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(b, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i out = _mm512_mask_or_epi32(up, nan, b, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(out, 16));
}

void to_bf16(const float* in, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = mask16(n - i);
    _mm256_mask_storeu_epi16(out + i, m, round_bf16(_mm512_maskz_loadu_ps(m, in + i)));
  }
}

int32_t sum8(const int8_t* in, int64_t n) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += 64) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(mask64(n - i), in + i));
  }
  return _mm512_reduce_add_epi32(sum);
}

void transpose(const void* in, DType type, int64_t row_stride, int64_t rows, int64_t cols, void* out,
               int64_t out_stride) {
  auto* to = static_cast<uint32_t*>(out);
  for (int64_t c = 0; c < cols; c += 16) {
    const __mmask16 m = mask16(cols - c);
    __m512i v[16];
    for (int64_t r = 0; r < 16; ++r) {
      v[r] = r < rows ? load16(in, type, r * row_stride + c, m) : _mm512_setzero_si512();
    }
    transpose16(v);
    for (int64_t j = 0; j < 16 && c + j < cols; ++j) _mm512_storeu_si512(to + (c + j) * out_stride, v[j]);
  }
}

void finish(const cpu::FinishArgs& a) {
  const Matrix& out = a.out;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; c += 16) {
      const __mmask16 m = mask16(a.columns - c);
      __m512 v = _mm512_loadu_ps(a.y + r * a.y_stride + c);
      if (out.dtype != DType::kI32) {
        if (a.x_scale != nullptr) v = _mm512_mul_ps(v, _mm512_set1_ps(a.x_scale[r]));
        if (a.bias != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, a.bias + c));
      }
      const int64_t at = r * out.row_stride + c * out.col_stride;
      const bool dense = out.col_stride == 1;
      if (out.dtype == DType::kF32 || out.dtype == DType::kI32) {
        auto* p = static_cast<float*>(out.data) + at;
        if (dense) {
          _mm512_mask_storeu_ps(p, m, v);
        } else {
          alignas(64) float lane[16];
          _mm512_store_ps(lane, v);
          for (int i = 0; i < 16 && c + i < a.columns; ++i) p[i * out.col_stride] = lane[i];
        }
      } else {
        const __m256i half = out.dtype == DType::kBF16 ? round_bf16(v) : _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
        auto* p = static_cast<uint16_t*>(out.data) + at;
        if (dense) {
          _mm256_mask_storeu_epi16(p, m, half);
        } else {
          alignas(32) uint16_t lane[16];
          _mm256_store_si256(reinterpret_cast<__m256i*>(lane), half);
          for (int i = 0; i < 16 && c + i < a.columns; ++i) p[i * out.col_stride] = lane[i];
        }
      }
    }
  }
}

}  // namespace

void unpack(const Codes& codes, int64_t r, int64_t c, int64_t n, uint8_t* out) {
  if (codes.layout == Layout::kTile16) {
    switch (codes.format->bits) {
      case 1: return unpack_tile_row<1>(codes, r, c, n, out);
      case 2: return unpack_tile_row<2>(codes, r, c, n, out);
      case 3: return unpack_tile_row<3>(codes, r, c, n, out);
      case 4: return unpack_tile_row<4>(codes, r, c, n, out);
      case 5: return unpack_tile_row<5>(codes, r, c, n, out);
      case 6: return unpack_tile_row<6>(codes, r, c, n, out);
      case 7: return unpack_tile_row<7>(codes, r, c, n, out);
      default: return unpack_tile_row<8>(codes, r, c, n, out);
    }
  }
  for (int64_t i = 0; i < n; i += 64) _mm512_mask_storeu_epi8(out + i, mask64(n - i), unpack64(codes, r, c + i));
}

void unpack_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out) {
  for (int32_t q = 0; q < quads; q += 16) {
    __m512i v[16];
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t r = row + i < codes.rows ? row + i : codes.rows - 1;
      v[i] = unpack64(codes, r, 4 * (quad + q));
    }
    transpose16(v);
    for (int32_t j = 0; j < 16 && q + j < quads; ++j) _mm512_storeu_si512(out + 64 * (q + j), v[j]);
  }
}

const cpu::GemmIsa kGemmIsa = {
    {&kInt8Engine, &kBF16Engine, &kF32Engine}, unpack, lookup8, lookup32, to_float, to_bf16, sum8, transpose, finish,
};

}  // namespace lowbit::avx512
