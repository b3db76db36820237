// Codes of every layout to one code a byte: along a row, and in the order of tile16 tiles.
#include <cstring>

#include "cpu/simd/gemm_decode.h"
#include "cpu/simd/tiled_quads.h"

namespace lowbit::avx512 {
namespace {

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

// canonical() of formats/layout.h, which is inline and may not be called from here.
Canonical kind_of(const Codes& codes) {
  const int bits = codes.format->bits;
  if (codes.format->kind != Kind::kFloat) return Canonical::kPlanes;
  return bits == 8   ? Canonical::kBytes
         : bits == 6 ? Canonical::kPacked6
         : bits == 4 ? Canonical::kPacked4
                     : Canonical::kPlanes;
}

// 64 codes from column c of a row at `row` of `cols` columns; what lies past them is 0.
struct PlainRow {
  __m512i mask;
  explicit PlainRow(int bits) : mask(_mm512_set1_epi8(static_cast<char>((1 << bits) - 1))) {}
  inline __m512i operator()(const uint8_t* row, int64_t c, int64_t cols) const {
    return _mm512_and_si512(_mm512_maskz_loadu_epi8(bytes_below(cols - c), row + c), mask);
  }
};

struct Packed4Row {
  static inline __m512i widen(__m512i x) { return _mm512_cvtepu8_epi16(_mm512_castsi512_si256(x)); }
  inline __m512i operator()(const uint8_t* row, int64_t c, int64_t cols) const {
    const int64_t bytes = (cols + 1) / 2 - c / 2;
    const __m512i raw = _mm512_maskz_loadu_epi8(bytes_below(bytes < 33 ? bytes : 33), row + c / 2);
    const __m512i low = widen(raw);
    if (c % 2 == 0) {
      return _mm512_and_si512(_mm512_or_si512(low, _mm512_slli_epi16(low, 4)), _mm512_set1_epi8(15));
    }
    // the first code is a high half: each word takes its second code from the next byte
    alignas(64) static const uint8_t next[64] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                                 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32};
    const __m512i after = widen(_mm512_permutexvar_epi8(_mm512_load_si512(next), raw));
    return _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi16(low, 4), _mm512_slli_epi16(after, 8)),
                            _mm512_set1_epi8(15));
  }
};

struct Packed6Row {
  inline __m512i operator()(const uint8_t* row, int64_t c, int64_t cols) const {
    const int64_t at = c / 4 * 3, bytes = (cols + 3) / 4 * 3 - at;
    const __m512i raw = _mm512_maskz_loadu_epi8(bytes_below(bytes < 51 ? bytes : 51), row + at);
    if (c % 4 == 0) {
      // 8 codes from every 6 bytes: those bytes to a 64-bit lane, its fields of 6 bits to bytes
      alignas(64) static const uint8_t spread[64] = {0,  1,  2,  3,  4,  5,  6,  7,  6,  7,  8,  9,  10, 11, 12, 13,
                                                     12, 13, 14, 15, 16, 17, 18, 19, 18, 19, 20, 21, 22, 23, 24, 25,
                                                     24, 25, 26, 27, 28, 29, 30, 31, 30, 31, 32, 33, 34, 35, 36, 37,
                                                     36, 37, 38, 39, 40, 41, 42, 43, 42, 43, 44, 45, 46, 47, 48, 49};
      const __m512i fields = _mm512_set1_epi64(0x2a241e18120c0600);
      const __m512i lanes = _mm512_permutexvar_epi8(_mm512_load_si512(spread), raw);
      return _mm512_and_si512(_mm512_multishift_epi64_epi8(fields, lanes), _mm512_set1_epi8(63));
    }
    alignas(64) uint8_t in[64];
    alignas(64) uint8_t out[64];
    _mm512_store_si512(in, raw);
    for (int i = 0; i < 64; ++i) {
      const int64_t bit = 6 * (c % 4 + i), b = bit / 8;
      const uint32_t two = in[b] | static_cast<uint32_t>(b + 1 < 64 ? in[b + 1] : 0) << 8;
      out[i] = static_cast<uint8_t>(two >> (bit % 8) & 63u);
    }
    return _mm512_load_si512(out);
  }
};

__m512i plane_row(const Codes& codes, int64_t r, int64_t c) {
  const auto* plane = static_cast<const uint8_t*>(codes.data) + 4 * r * codes.row_stride;
  const int64_t bytes = (codes.cols + 31) / 32 * 4;
  __m512i v = _mm512_setzero_si512();
  for (int b = 0; b < codes.format->bits; ++b, plane += 4 * codes.plane_stride) {
    v = _mm512_add_epi8(v, v);
    v = _mm512_mask_add_epi8(v, _cvtu64_mask64(load_bits(plane, bytes, c)), v, _mm512_set1_epi8(1));
  }
  return v;
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

// Columns [c, c + n) of a row of mma64 tiles.
void unpack_mma_row(const Codes& codes, int64_t r, int64_t c, int64_t n, uint8_t* out) {
  const MmaQuads from(codes);
  for (int64_t done = 0; done < n;) {
    const int64_t q = (c + done) / 4, in = (c + done) % 4;
    const uint32_t quad = from.get(r, q) >> (8 * in);
    const int64_t take = 4 - in < n - done ? 4 - in : n - done;
    std::memcpy(out + done, &quad, static_cast<size_t>(take));
    done += take;
  }
}

// unpack_quads of codes that stand whole in their row.
template <class Row>
void unpack_row_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, const Row& read, uint8_t* out) {
  const auto* first = static_cast<const uint8_t*>(codes.data) + row * codes.row_stride;
  const int64_t last = codes.rows - 1 - row;
  for (int32_t q = 0; q < quads; q += 16) {
    const int64_t c = 4 * (quad + q);
    __m512i v[16];
    for (int64_t i = 0; i < 16; ++i) {
      const uint8_t* p = first + (i < last ? i : last) * codes.row_stride;
      // rows are read side by side, more of them than the hardware follows
      _mm_prefetch(reinterpret_cast<const char*>(p + c * codes.format->bits / 8 + 256), _MM_HINT_T0);
      v[i] = read(p, c, codes.cols);
    }
    transpose(v);
    for (int32_t j = 0; j < 16 && q + j < quads; ++j) _mm512_storeu_si512(out + 64 * (q + j), v[j]);
  }
}

// Words [w, w + 4) of rows g, 4 + g, 8 + g and 12 + g of a plane, a row a 128-bit lane; `left` words are in the row.
inline __m512i load_lanes(const uint32_t* plane, const int64_t (&offset)[16], int g, int64_t left) {
  const auto row = [&](int a) {
    const uint32_t* p = plane + offset[4 * a + g];
    const auto* vector = reinterpret_cast<const __m128i*>(p);
    return left >= 4 ? _mm_loadu_si128(vector) : _mm_maskz_loadu_epi32(static_cast<__mmask8>((1 << left) - 1), p);
  };
  __m512i v = _mm512_castsi128_si512(row(0));
  v = _mm512_inserti32x4(v, row(1), 1);
  v = _mm512_inserti32x4(v, row(2), 2);
  return _mm512_inserti32x4(v, row(3), 3);
}

// unpack_quads of planes, 128 columns at a time. The bytes of all planes for the same 8 columns of a row make an 8 x 8
// bit matrix, whose transpose is 8 codes: so bytes are interleaved over the planes within the lanes of load_lanes(),
// and what remains is a 4 x 4 transpose of dwords over the four g. Planes of at most 4 bits fill half a matrix: two
// groups of 8 columns share one, and their codes come out as the two halves of a byte.
template <int kBits>
void unpack_plane_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out) {
  constexpr bool kHalf = kBits <= 4;
  constexpr int kPlanes = kHalf ? 4 : 8, kFirst = kPlanes - kBits;
  constexpr int kColumns[2][4] = {{0, 1, kHalf ? 4 : 2, kHalf ? 5 : 3}, {2, 3, 6, 7}};  // of quads, see kHalf below
  constexpr int64_t kLine = 16;                                                         // words of a cache line
  const int64_t words = (codes.cols + 31) / 32, end = quad + quads;
  int64_t offset[16];
  for (int64_t i = 0; i < 16; ++i) {
    offset[i] = (row + i < codes.rows ? row + i : codes.rows - 1) * codes.row_stride;
  }
  for (int64_t w = quad / 8; 8 * w < end; w += 4) {
    if (w % kLine < 4) {  // rows of all planes are read side by side, more of them than the hardware follows
      for (int b = 0; b < kBits; ++b) {
        const auto* plane = static_cast<const uint32_t*>(codes.data) + b * codes.plane_stride + w + 2 * kLine;
        for (const int64_t at : offset) _mm_prefetch(reinterpret_cast<const char*>(plane + at), _MM_HINT_T0);
      }
    }
    __m512i lanes[4][8];  // [g]: 16 bytes of each row, then the codes of 8 quads
    for (int g = 0; g < 4; ++g) {
      __m512i p[8], t[8];
      for (int b = 0; b < kPlanes; ++b) {
        const auto* plane = static_cast<const uint32_t*>(codes.data) + (b - kFirst) * codes.plane_stride + w;
        p[b] = b < kFirst ? _mm512_setzero_si512() : load_lanes(plane, offset, g, words - w);
      }
      for (int b = 0; b < kPlanes; b += 2) {
        t[b] = _mm512_unpacklo_epi8(p[b], p[b + 1]);
        t[b + 1] = _mm512_unpackhi_epi8(p[b], p[b + 1]);
      }
      for (int b = 0; b < kPlanes; b += 4) {  // t[b + 2 h + l] becomes p[b + 2 h + l]: a dword a group of 8 columns
        for (int h = 0; h < 2; ++h) {
          p[b + 2 * h] = _mm512_unpacklo_epi16(t[b + h], t[b + 2 + h]);
          p[b + 2 * h + 1] = _mm512_unpackhi_epi16(t[b + h], t[b + 2 + h]);
        }
      }
      for (int i = 0; i < 4; ++i) {
        if (kHalf) {
          const __m512i both = _mm512_gf2p8affine_epi64_epi8(identity_bytes(), p[i], 0);
          lanes[g][2 * i] = _mm512_and_si512(_mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
          lanes[g][2 * i + 1] = _mm512_and_si512(both, _mm512_set1_epi8(15));
        } else {
          const __m512i low = _mm512_unpacklo_epi32(p[i], p[4 + i]), high = _mm512_unpackhi_epi32(p[i], p[4 + i]);
          lanes[g][2 * i] = _mm512_gf2p8affine_epi64_epi8(identity_bytes(), low, 0);
          lanes[g][2 * i + 1] = _mm512_gf2p8affine_epi64_epi8(identity_bytes(), high, 0);
        }
      }
    }
    for (int i = 0; i < 8; ++i) {
      const __m512i a = _mm512_unpacklo_epi32(lanes[0][i], lanes[1][i]);
      const __m512i b = _mm512_unpacklo_epi32(lanes[2][i], lanes[3][i]);
      const __m512i c = _mm512_unpackhi_epi32(lanes[0][i], lanes[1][i]);
      const __m512i d = _mm512_unpackhi_epi32(lanes[2][i], lanes[3][i]);
      const __m512i tiles[4] = {_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b), _mm512_unpacklo_epi64(c, d),
                                _mm512_unpackhi_epi64(c, d)};
      const int64_t first = 8 * w + (kHalf ? i / 2 * 8 : i * 4) - quad;
      for (int j = 0; j < 4; ++j) {
        const int64_t q = first + kColumns[kHalf ? i % 2 : 0][j];
        if (q >= 0 && q < quads) _mm512_storeu_si512(out + 64 * q, tiles[j]);
      }
    }
  }
}

// Lane i: quad `quad` of row i of the 16 rows from `row`, a multiple of 16.
__m512i mma_column(const MmaQuads& from, int64_t row, int64_t quad) {
  const int bits = from.bits;
  const uint8_t* p = from.tile(row, quad);
  const int q = static_cast<int>(quad % 16);
  const __m512i rows = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i lane =
      _mm512_add_epi32(_mm512_slli_epi32(_mm512_and_si512(rows, _mm512_set1_epi32(7)), 2), _mm512_set1_epi32(q % 4));
  const __m512i i = _mm512_add_epi32(_mm512_srli_epi32(rows, 3), _mm512_set1_epi32(q / 4 * 2));
  if (bits == 8) {
    const __m512i at = _mm512_add_epi32(_mm512_slli_epi32(lane, 2), _mm512_and_si512(i, _mm512_set1_epi32(3)));
    return _mm512_i32gather_epi32(at, p + 512 * (q / 8), 4);
  }
  __m512i codes = _mm512_setzero_si512();
  for (int low = 0, f; low < bits; low += f) {
    f = from.field(low);
    const __m512i bit = _mm512_mullo_epi32(i, _mm512_set1_epi32(f));
    const __m512i at = _mm512_add_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(f)), _mm512_srli_epi32(bit, 3));
    const __m512i word = _mm512_i32gather_epi32(at, p + 128 * low, 4);
    const __m512i part = _mm512_and_si512(_mm512_srlv_epi32(word, _mm512_and_si512(bit, _mm512_set1_epi32(7))),
                                          _mm512_set1_epi32(static_cast<int>(MmaQuads::mask(f))));
    codes = _mm512_or_si512(codes, _mm512_sll_epi32(part, _mm_cvtsi32_si128(low)));
  }
  return codes;
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
  if (codes.layout == Layout::kMma64) return unpack_mma_row(codes, r, c, n, out);
  const auto each = [&](auto read) {
    const auto* row = static_cast<const uint8_t*>(codes.data) + r * codes.row_stride;
    for (int64_t i = 0; i < n; i += 64) {
      _mm512_mask_storeu_epi8(out + i, bytes_below(n - i), read(row, c + i, codes.cols));
    }
  };
  if (codes.layout == Layout::kPlain) return each(PlainRow(codes.format->bits));
  switch (kind_of(codes)) {
    case Canonical::kBytes: return each(PlainRow(8));
    case Canonical::kPacked4: return each(Packed4Row());
    case Canonical::kPacked6: return each(Packed6Row());
    default:
      for (int64_t i = 0; i < n; i += 64)
        _mm512_mask_storeu_epi8(out + i, bytes_below(n - i), plane_row(codes, r, c + i));
  }
}

void unpack_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out) {
  if (codes.layout == Layout::kMma64) {
    const MmaQuads from(codes);
    for (int32_t q = 0; q < quads; ++q) _mm512_storeu_si512(out + 64 * q, mma_column(from, row, quad + q));
    return;
  }
  if (codes.layout == Layout::kPlain)
    return unpack_row_quads(codes, row, quad, quads, PlainRow(codes.format->bits), out);
  switch (kind_of(codes)) {
    case Canonical::kBytes: return unpack_row_quads(codes, row, quad, quads, PlainRow(8), out);
    case Canonical::kPacked4: return unpack_row_quads(codes, row, quad, quads, Packed4Row(), out);
    case Canonical::kPacked6: return unpack_row_quads(codes, row, quad, quads, Packed6Row(), out);
    default: break;
  }
  switch (codes.format->bits) {
    case 1: return unpack_plane_quads<1>(codes, row, quad, quads, out);
    case 2: return unpack_plane_quads<2>(codes, row, quad, quads, out);
    case 3: return unpack_plane_quads<3>(codes, row, quad, quads, out);
    case 4: return unpack_plane_quads<4>(codes, row, quad, quads, out);
    case 5: return unpack_plane_quads<5>(codes, row, quad, quads, out);
    case 6: return unpack_plane_quads<6>(codes, row, quad, quads, out);
    case 7: return unpack_plane_quads<7>(codes, row, quad, quads, out);
    default: return unpack_plane_quads<8>(codes, row, quad, quads, out);
  }
}

}  // namespace lowbit::avx512
