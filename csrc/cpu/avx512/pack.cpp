#include "cpu/avx512/pack.h"

#include "cpu/avx512/code_rows.h"
#include "cpu/avx512/copy_rows.h"
#include "cpu/dispatch.h"

namespace lowbit::avx512 {
namespace {

// Calls f(rows, bits) with the reader and writer of `codes`, which must not be tiled.
template <class F>
void with_rows(const Codes& codes, F f) {
  auto* bytes = static_cast<uint8_t*>(const_cast<void*>(codes.data));
  const int64_t stride = codes.row_stride, cols = codes.cols;
  const Canonical kind = codes.layout == Layout::kPlain ? Canonical::kBytes : canonical(*codes.format);
  if (kind == Canonical::kPacked4) return f(NibbleRows<false>{bytes, stride, cols}, std::integral_constant<int, 4>());
  if (kind == Canonical::kPacked6) return f(Packed6Rows{bytes, stride, cols}, std::integral_constant<int, 6>());
  with_bits(codes.format->bits, [&](auto bits) {
    constexpr int kBits = decltype(bits)::value;
    if (kind == Canonical::kBytes) return f(ByteRows<kBits>{bytes, stride, cols}, bits);
    auto* words = static_cast<uint32_t*>(const_cast<void*>(codes.data));
    return f(PlaneRows<kBits>{words, stride, codes.plane_stride, cols}, bits);
  });
}

// Contiguous canonical codes at `data`.
Codes contiguous_view(const ElementFormat& f, void* data, int64_t rows, int64_t cols) {
  Codes c;
  c.data = data;
  c.format = &f;
  c.rows = rows;
  c.cols = cols;
  c.row_stride = canonical_row(canonical(f), cols);
  c.plane_stride = c.row_stride * rows;
  return c;
}

// 64 codes -> 8 * kBits bytes of a tile16 tile, the rest of the register is of no use.
template <int kBits>
inline __m512i to_tile(__m512i codes, __m512i index) {
  if constexpr (kBits == 8) return codes;
  return _mm512_permutexvar_epi8(index, transpose_bits(reverse_lanes(codes)));
}

// The inverse: `tile` holds 8 * kBits bytes.
template <int kBits>
inline __m512i from_tile(__m512i tile, __m512i index) {
  if constexpr (kBits == 8) return tile;
  constexpr uint64_t kUsed = 0xff & ~((1u << (8 - kBits)) - 1u);  // lane byte 7 - b is bit b
  return transpose_bits(_mm512_maskz_permutexvar_epi8(kUsed * 0x0101010101010101, index, tile));
}

struct TileIndex {
  alignas(64) uint8_t pack[64];    // tile byte kBits g + b is byte b of lane g
  alignas(64) uint8_t unpack[64];  // byte 7 - b of lane g is tile byte kBits g + b
};

template <int kBits>
constexpr TileIndex make_tile_index() {
  TileIndex t{};
  for (int g = 0; g < 8; ++g) {
    for (int b = 0; b < kBits; ++b) {
      t.pack[kBits * g + b] = static_cast<uint8_t>(8 * g + b);
      t.unpack[8 * g + 7 - b] = static_cast<uint8_t>(kBits * g + b);
    }
  }
  return t;
}
template <int kBits>
constexpr TileIndex kTileIndex = make_tile_index<kBits>();

// Codes of 16 rows x 512 columns on their way between rows, which are read and written by cache lines, and tiles: with
// 64 codes of a row as 16 lanes of four, a tile is the same lane of every row.
struct Band {
  alignas(64) uint8_t codes[kTileRows][kBlock];

  template <class Rows>
  void read(const Rows& from, int64_t row, int64_t rows, int64_t c) {
    for (int64_t i = 0; i < kTileRows; ++i) {
      Run v;
      // rows lie too far apart for the processor to see what comes next
      if (row + i + kTileRows < rows) from.expect(row + i + kTileRows, c);
      if (row + i < rows) {
        from.load(row + i, c, v);
      } else {
        for (auto& part : v) part = _mm512_setzero_si512();
      }
      for (int j = 0; j < 8; ++j) _mm512_store_si512(codes[i] + j * kChunk, v[j]);
    }
  }
  template <class Rows>
  void write(const Rows& to, int64_t row, int64_t rows, int64_t c, int64_t cols) const {
    for (int64_t i = 0; i < kTileRows && row + i < rows; ++i) {
      Run v;
      for (int j = 0; j < 8; ++j) {
        v[j] = _mm512_load_si512(codes[i] + j * kChunk);
        // what a file holds past the matrix does not come back
        if (cols - c < kBlock) v[j] = _mm512_maskz_mov_epi8(first(cols - c - j * kChunk), v[j]);
      }
      to.store(row + i, c, v);
    }
  }
};

template <int kBits, class Rows>
void prepack_rows(const Rows& from, uint8_t* out, int64_t rows, int64_t cols, const Parallel& parallel) {
  constexpr int64_t kTileBytes = 8 * kBits;
  const int64_t tiles = (cols + kTileCols - 1) / kTileCols;
  parallel((rows + kTileRows - 1) / kTileRows, row_grain(cols * kTileRows), [&](int64_t begin, int64_t end) {
    const __m512i index = _mm512_load_si512(kTileIndex<kBits>.pack);
    Band band;
    for (int64_t b = begin; b < end; ++b) {
      uint8_t* to = out + b * tiles * kTileBytes;
      uint8_t* const last = to + tiles * kTileBytes;
      for (int64_t c = 0; c < cols; c += kBlock) {
        band.read(from, b * kTileRows, rows, c);
        for (int64_t j = 0; j < kBlock && to < last; j += kChunk) {
          __m512i v[16];
          for (int i = 0; i < 16; ++i) v[i] = _mm512_load_si512(band.codes[i] + j);
          transpose16(v);
          if (last - to >= 15 * kTileBytes + 64) {
            // each store runs into the next tile, which then writes over it
            for (int t = 0; t < 16; ++t, to += kTileBytes) {
              const __m512i tile = to_tile<kBits>(v[t], index);
              if constexpr (kBits == 4) {
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(tile));
              } else {
                _mm512_storeu_si512(to, tile);
              }
            }
          } else {
            for (int t = 0; t < 16 && to < last; ++t, to += kTileBytes) {
              _mm512_mask_storeu_epi8(to, first(kTileBytes), to_tile<kBits>(v[t], index));
            }
          }
        }
      }
    }
  });
}

template <int kBits, class Rows>
void unprepack_rows(const uint8_t* in, const Rows& to, int64_t rows, int64_t cols, const Parallel& parallel) {
  constexpr int64_t kTileBytes = 8 * kBits;
  const int64_t tiles = (cols + kTileCols - 1) / kTileCols;
  parallel((rows + kTileRows - 1) / kTileRows, row_grain(cols * kTileRows), [&](int64_t begin, int64_t end) {
    const __m512i index = _mm512_load_si512(kTileIndex<kBits>.unpack);
    Band band;
    for (int64_t b = begin; b < end; ++b) {
      const uint8_t* from = in + b * tiles * kTileBytes;
      const uint8_t* const last = from + tiles * kTileBytes;
      for (int64_t c = 0; c < cols; c += kBlock) {
        for (int64_t j = 0; j < kBlock && from < last; j += kChunk) {
          __m512i v[16];
          if (last - from >= 15 * kTileBytes + 64) {
            for (int t = 0; t < 16; ++t, from += kTileBytes) v[t] = from_tile<kBits>(_mm512_loadu_si512(from), index);
          } else {
            for (int t = 0; t < 16; ++t, from += kTileBytes) {
              v[t] = from < last ? from_tile<kBits>(load_first(from, kTileBytes), index) : _mm512_setzero_si512();
            }
          }
          transpose16(v);
          for (int i = 0; i < 16; ++i) _mm512_store_si512(band.codes[i] + j, v[i]);
        }
        band.write(to, b * kTileRows, rows, c, cols);
      }
    }
  });
}

}  // namespace

Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Parallel& parallel) {
  bool good = true;
  with_rows(contiguous_view(f, out, rows, cols), [&](auto to, auto) {
    const ByteRows<8> from{const_cast<uint8_t*>(codes), row_stride, cols};
    good = pack_rows(f, from, to, rows, parallel);
  });
  // the reference finds the first that is no code, and says so
  if (!good) return ref::pack(f, codes, row_stride, rows, cols, out, parallel);
  cpu::ran("pack:avx512");
  return Status();
}

Status unpack(const Codes& packed, uint8_t* out, const Parallel& parallel) {
  if (packed.layout == Layout::kTile16 || packed.layout == Layout::kMma64) return ref::unpack(packed, out, parallel);
  with_rows(packed, [&](auto from, auto) {
    copy_rows(from, ByteRows<8>{out, packed.cols, packed.cols}, packed.rows, packed.cols, parallel);
  });
  cpu::ran("unpack:avx512");
  return Status();
}

Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Parallel& parallel) {
  // mma64 is for other processors
  if (layout != Layout::kTile16) return ref::prepack(codes, layout, out, parallel);
  with_rows(codes, [&](auto from, auto bits) {
    prepack_rows<decltype(bits)::value>(from, out, codes.rows, codes.cols, parallel);
  });
  cpu::ran("prepack:avx512");
  return Status();
}

Status unprepack(const Codes& tiles, void* out, const Parallel& parallel) {
  if (tiles.layout != Layout::kTile16) return ref::unprepack(tiles, out, parallel);
  with_rows(contiguous_view(*tiles.format, out, tiles.rows, tiles.cols), [&](auto to, auto bits) {
    const auto* from = static_cast<const uint8_t*>(tiles.data);
    unprepack_rows<decltype(bits)::value>(from, to, tiles.rows, tiles.cols, parallel);
  });
  cpu::ran("unprepack:avx512");
  return Status();
}

}  // namespace lowbit::avx512
