// Codes of every layout to one code a byte: along a row, and in the order of tile16 tiles.
#include <cstring>

#include "cpu/simd/gemm_decode.h"
#include "cpu/simd/tiled_quads.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// canonical() of formats/layout.h, which is inline and may not be called from here.
Canonical kind_of(const Codes& codes) {
  const int bits = codes.format->bits;
  if (codes.layout == Layout::kPlain) return Canonical::kBytes;
  if (codes.format->kind != Kind::kFloat) return Canonical::kPlanes;
  return bits == 8   ? Canonical::kBytes
         : bits == 6 ? Canonical::kPacked6
         : bits == 4 ? Canonical::kPacked4
                     : Canonical::kPlanes;
}

// Readers of a row of a layout: 32 codes from column c; what lies past the row is 0.
struct BytesRow {
  const uint8_t* base;
  int64_t stride, cols;
  Ints mask;

  explicit BytesRow(const Codes& codes)
      : base(static_cast<const uint8_t*>(codes.data)),
        stride(codes.row_stride),
        cols(codes.cols),
        mask(bytes((1 << codes.format->bits) - 1)) {}
  Ints operator()(int64_t r, int64_t c) const { return bit_and(load_bytes(base + r * stride + c, cols - c), mask); }
};

struct Packed4Row {
  const uint8_t* base;
  int64_t stride, cols;

  explicit Packed4Row(const Codes& codes)
      : base(static_cast<const uint8_t*>(codes.data)), stride(codes.row_stride), cols(codes.cols) {}
  Ints operator()(int64_t r, int64_t c) const {
    const uint8_t* p = base + r * stride + c / 2;
    const int64_t left = (cols + 1) / 2 - c / 2;
    uint8_t part[32] = {};
    if (left < 17) {
      std::memcpy(part, p, left > 0 ? static_cast<size_t>(left) : 0);
      p = part;
    }
    Ints v = split(p);
    if (c % 2 != 0) {  // from the high half of the first byte on
      const Ints next = split(p + 1);
      v = _mm256_or_si256(_mm256_srli_epi16(v, 8), _mm256_slli_epi16(next, 8));
    }
    return v;
  }
  static Ints split(const uint8_t* p) {
    const Ints pair = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return bit_and(bit_or(pair, _mm256_slli_epi16(pair, 4)), bytes(15));
  }
};

struct Packed6Row {
  const uint8_t* base;
  int64_t stride, cols;

  explicit Packed6Row(const Codes& codes)
      : base(static_cast<const uint8_t*>(codes.data)), stride(codes.row_stride), cols(codes.cols) {}
  Ints operator()(int64_t r, int64_t c) const {
    if (c % 4 != 0) {
      alignas(32) uint8_t around[64];
      store_ints(around, (*this)(r, c / 4 * 4));
      store_ints(around + 32, (*this)(r, c / 4 * 4 + 32));
      return load_ints(around + c % 4);
    }
    const uint8_t* p = base + r * stride + c / 4 * 3;
    const int64_t left = (cols + 3) / 4 * 3 - c / 4 * 3;
    uint8_t part[32] = {};
    if (left < 28) {
      std::memcpy(part, p, left > 0 ? static_cast<size_t>(left) : 0);
      p = part;
    }
    // three bytes to 32 bits, whose fields of 6 bits go to bytes
    const Ints threes =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    const Ints v = _mm256_shuffle_epi8(load_twice(p, p + 12), threes);
    return bit_or(
        bit_or(bit_and(v, ints(0x3f)), bit_and(_mm256_slli_epi32(v, 2), ints(0x3f00))),
        bit_or(bit_and(_mm256_slli_epi32(v, 4), ints(0x3f0000)), bit_and(_mm256_slli_epi32(v, 6), ints(0x3f000000))));
  }
};

template <int kBits>
struct PlanesRow {
  const uint32_t* base;
  int64_t stride, plane_stride, words;
  Ints spread, bit;

  explicit PlanesRow(const Codes& codes)
      : base(static_cast<const uint32_t*>(codes.data)),
        stride(codes.row_stride),
        plane_stride(codes.plane_stride),
        words((codes.cols + 31) / 32),
        spread(_mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3,
                                3, 3, 3)),
        bit(_mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201))) {}
  Ints operator()(int64_t r, int64_t c) const {
    const uint32_t* p = base + r * stride + c / 32;
    const int64_t left = words - c / 32;
    Ints v = no_ints();
    for (int b = 0; b < kBits; ++b, p += plane_stride) {  // every byte a copy of the byte its bit is in
      uint32_t word = left > 0 ? *p : 0;
      if (c % 32 != 0) word = word >> (c % 32) | (left > 1 ? p[1] << (32 - c % 32) : 0);
      const Ints copies = _mm256_shuffle_epi8(ints(static_cast<int32_t>(word)), spread);
      v = _mm256_sub_epi8(_mm256_add_epi8(v, v), _mm256_cmpeq_epi8(bit_and(copies, bit), bit));
    }
    return v;
  }
};

// Calls f(reader) for codes that are not tiled.
template <class F>
void with_row(const Codes& codes, F f) {
  switch (kind_of(codes)) {
    case Canonical::kBytes: return f(BytesRow(codes));
    case Canonical::kPacked4: return f(Packed4Row(codes));
    case Canonical::kPacked6: return f(Packed6Row(codes));
    default: break;
  }
  switch (codes.format->bits) {
    case 1: return f(PlanesRow<1>(codes));
    case 2: return f(PlanesRow<2>(codes));
    case 3: return f(PlanesRow<3>(codes));
    case 4: return f(PlanesRow<4>(codes));
    case 5: return f(PlanesRow<5>(codes));
    case 6: return f(PlanesRow<6>(codes));
    case 7: return f(PlanesRow<7>(codes));
    default: return f(PlanesRow<8>(codes));
  }
}

template <class Quads>
void unpack_tiled_row(const Quads& from, int64_t r, int64_t c, int64_t n, uint8_t* out) {
  for (int64_t done = 0; done < n;) {
    const int64_t in = (c + done) % 4;
    const uint32_t quad = from.get(r, (c + done) / 4) >> (8 * in);
    const int64_t take = 4 - in < n - done ? 4 - in : n - done;
    std::memcpy(out + done, &quad, static_cast<size_t>(take));
    done += take;
  }
}

}  // namespace

void unpack(const Codes& codes, int64_t r, int64_t c, int64_t n, uint8_t* out) {
  if (codes.layout == Layout::kTile16) return unpack_tiled_row(TileQuads(codes), r, c, n, out);
  if (codes.layout == Layout::kMma64) return unpack_tiled_row(MmaQuads(codes), r, c, n, out);
  with_row(codes, [&](const auto& read) {
    for (int64_t i = 0; i < n; i += 32) store_bytes(out + i, n - i, read(r, c + i));
  });
}

void unpack_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out) {
  if (codes.layout == Layout::kMma64) {
    const MmaQuads from(codes);
    for (int32_t q = 0; q < quads; ++q) {
      for (int64_t i = 0; i < kTileRows; ++i) {
        const uint32_t four = from.get(row + i, quad + q);
        std::memcpy(out + 64 * q + 4 * i, &four, 4);
      }
    }
    return;
  }
  const int64_t last = codes.rows - 1;
  with_row(codes, [&](const auto& read) {
    for (int32_t q = 0; q < quads; q += 8) {
      for (int64_t i = 0; i < kTileRows; i += 8) {
        Ints v[8];
        for (int64_t j = 0; j < 8; ++j) v[j] = read(row + i + j < last ? row + i + j : last, 4 * (quad + q));
        transpose(v);
        for (int32_t j = 0; j < 8 && q + j < quads; ++j) store_ints(out + 64 * (q + j) + 4 * i, v[j]);
      }
    }
  });
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
