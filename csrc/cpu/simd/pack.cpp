#include "cpu/simd/pack.h"

#include "cpu/dispatch.h"
#include "cpu/simd/copy_rows.h"
#include "cpu/simd/gemm_decode.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
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

// Codes of 16 rows x 512 columns on their way between rows, which are read and written by cache lines, and tiles: with
// the codes of a row as lanes of four, a tile is the same lane of every row.
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
        for (auto& part : v) part = no_ints();
      }
      for (int j = 0; j < kChunks; ++j) store_ints(codes[i] + j * kChunk, v[j]);
    }
  }
  template <class Rows>
  void write(const Rows& to, int64_t row, int64_t rows, int64_t c, int64_t cols) const {
    for (int64_t i = 0; i < kTileRows && row + i < rows; ++i) {
      Run v;
      for (int j = 0; j < kChunks; ++j) {
        v[j] = load_ints(codes[i] + j * kChunk);
        // what a file holds past the matrix does not come back
        if (cols - c < kBlock) v[j] = first_bytes(v[j], cols - c - j * kChunk);
      }
      to.store(row + i, c, v);
    }
  }
};

constexpr int kParts = static_cast<int>(kTileRows) / kLanes;

template <int kBits, class Rows>
void prepack_rows(const Rows& from, uint8_t* out, int64_t rows, int64_t cols, const Parallel& parallel) {
  constexpr int64_t kTileBytes = 8 * kBits;
  const int64_t tiles = (cols + kTileCols - 1) / kTileCols;
  parallel((rows + kTileRows - 1) / kTileRows, row_grain(cols * kTileRows), [&](int64_t begin, int64_t end) {
    const TileEncoder<kBits> encode;
    Band band;
    for (int64_t b = begin; b < end; ++b) {
      uint8_t* to = out + b * tiles * kTileBytes;
      uint8_t* const last = to + tiles * kTileBytes;
      for (int64_t c = 0; c < cols; c += kBlock) {
        band.read(from, b * kTileRows, rows, c);
        for (int64_t j = 0; j < kBlock && to < last; j += kChunk) {
          Ints v[kParts][kLanes];
          for (int part = 0; part < kParts; ++part) {
            for (int i = 0; i < kLanes; ++i) v[part][i] = load_ints(band.codes[part * kLanes + i] + j);
            transpose(v[part]);
          }
          for (int t = 0; t < kLanes && to < last; ++t, to += kTileBytes) {
            Ints codes[kParts];
            for (int part = 0; part < kParts; ++part) codes[part] = v[part][t];
            // a store may run into the next tile, which then writes over it
            encode(codes, to, last - to);
          }
        }
      }
    }
  });
}

template <int kBits, class Rows>
void unprepack_rows(const uint8_t* in, const Rows& to, int64_t rows, int64_t cols, const Parallel& parallel) {
  using Decoder = TileDecoder<kBits>;
  const int64_t tiles = (cols + kTileCols - 1) / kTileCols;
  parallel((rows + kTileRows - 1) / kTileRows, row_grain(cols * kTileRows), [&](int64_t begin, int64_t end) {
    const Decoder decode;
    Band band;
    for (int64_t b = begin; b < end; ++b) {
      const uint8_t* from = in + b * tiles * Decoder::kBytes;
      const uint8_t* const last = from + tiles * Decoder::kBytes;
      for (int64_t c = 0; c < cols; c += kBlock) {
        for (int64_t j = 0; j < kBlock && from < last; j += kChunk) {
          Ints v[kParts][kLanes];
          for (int t = 0; t < kLanes; ++t, from += Decoder::kBytes) {
            Ints codes[kParts];
            if (from < last) {
              decode(from, last - from >= Decoder::kLoad, codes);
            } else {
              for (auto& part : codes) part = no_ints();
            }
            for (int part = 0; part < kParts; ++part) v[part][t] = codes[part];
          }
          for (int part = 0; part < kParts; ++part) {
            transpose(v[part]);
            for (int i = 0; i < kLanes; ++i) store_ints(band.codes[part * kLanes + i] + j, v[part][i]);
          }
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
  cpu::ran(LOWBIT_KERNEL("pack"));
  return Status();
}

Status unpack(const Codes& packed, uint8_t* out, const Parallel& parallel) {
  if (packed.layout == Layout::kTile16 || packed.layout == Layout::kMma64) return ref::unpack(packed, out, parallel);
  with_rows(packed, [&](auto from, auto) {
    copy_rows(from, ByteRows<8>{out, packed.cols, packed.cols}, packed.rows, packed.cols, parallel);
  });
  cpu::ran(LOWBIT_KERNEL("unpack"));
  return Status();
}

Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Parallel& parallel) {
  // mma64 is for other processors
  if (layout != Layout::kTile16) return ref::prepack(codes, layout, out, parallel);
  with_rows(codes, [&](auto from, auto bits) {
    prepack_rows<decltype(bits)::value>(from, out, codes.rows, codes.cols, parallel);
  });
  cpu::ran(LOWBIT_KERNEL("prepack"));
  return Status();
}

Status unprepack(const Codes& tiles, void* out, const Parallel& parallel) {
  if (tiles.layout != Layout::kTile16) return ref::unprepack(tiles, out, parallel);
  with_rows(contiguous_view(*tiles.format, out, tiles.rows, tiles.cols), [&](auto to, auto bits) {
    const auto* from = static_cast<const uint8_t*>(tiles.data);
    unprepack_rows<decltype(bits)::value>(from, to, tiles.rows, tiles.cols, parallel);
  });
  cpu::ran(LOWBIT_KERNEL("unprepack"));
  return Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
