// The engines of bit planes: AND (or XOR) of a plane of w and one of x, the bits set in each byte, and a dot of four
// bytes with the weight of the pair. The instructions, and the order of 32 columns in a lane, are those of
// bit_planes.h.
//
//   w       operands[plane] of 32 columns: 32-bit lane r has them of row r of a tile
//   x       words[plane] of 32 columns of a row (PlaneProduct::words, rounded up to an even number)
// Sums stay in the lanes of their rows, so that a segment costs a join and no more.
//
// Floors of 512 products of a pair of planes. AVX-512: three instructions for two ports (vpopcntb on one of them), 1.5
// cycles; the same 512 by vpdpbusd are 4 cycles, by tdpbusd half of one. A carry-save adder takes a word off for two
// instructions, as vpopcntb and vpdpbusd do, and gains nothing. So planes win where p q < 3, or where there are few
// rows of x: decoding 512 weights of p bits takes 3 p cycles, and vpdpbusd's 24. AVX2: 2 x 10 instructions for three
// ports, 7 cycles (AVX-VNNI 2 x 8, 5.3); vpmaddubsw takes 11 (vpdpbusd 8). Decoding takes 34 p instructions, and that
// of bytes 170.
#include "cpu/simd/popcount_gemm.h"

#include "cpu/simd/bit_planes.h"
#include "cpu/simd/gemm_tiles.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

using cpu::PackArgs;
using cpu::PlaneProduct;

constexpr int kColumns = kUnitQuads * static_cast<int>(kTileCols);
constexpr int kPanelBytes = 32 << 10;  // of kPanelTiles tiles

constexpr int words_of(int planes, bool exclusive) { return (planes + (exclusive ? 1 : 0) + 1) / 2 * 2; }

struct PlaneSums : IntegerSums {
  static constexpr int kOperands = 1;
  template <class B>
  static LOWBIT_INLINE void add_start(const BlockArgs& a, int32_t p, B& b) {
    b.each(p, [&](int r, int v, int64_t, int64_t xi) { b.sum[r][v] = add(b.sum[r][v], ints(a.x_start[xi])); });
    if (a.w_zero != nullptr) {
      b.each(p, [&](int r, int v, int64_t wi, int64_t xi) {
        b.sum[r][v] = add(b.sum[r][v], mul(load_ints(a.w_zero + wi), ints(a.x_sum[xi])));
      });
    }
    if (a.w_sum != nullptr) {
      b.each(p, [&](int r, int v, int64_t wi, int64_t xi) {
        b.sum[r][v] = add(b.sum[r][v], mul(load_ints(a.w_sum + wi), ints(a.x_zero[xi])));
      });
    }
  }
};

// The counts of a piece and kStep tiles from `first` to y or to carry: one copy for the engines of all planes.
template <int kTiles, int kStep, int kR>
__attribute__((noinline)) void join(const BlockArgs& args, int32_t p, int first,
                                    const Ints (&counts)[kR][kStep * kParts]) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  Block<PlaneSums, kTiles, kStep, kR> block;
  block.first = first;
  block.each(p, [&](int r, int v, int64_t, int64_t) { block.sum[r][v] = counts[r][v]; });
  PlaneSums::add_start(a, p, block);
  block.join(a, p);
}

// Counts of w's planes with kR rows of x.
template <int kQ, bool kExclusive, int kVectors, int kR>
struct Counts {
  static constexpr int kWords = words_of(kQ, kExclusive);
  Ints sum[kR][kVectors];

  LOWBIT_INLINE void clear() {
    LOWBIT_UNROLL
    for (auto& row : sum) {
      LOWBIT_UNROLL
      for (auto& s : row) s = no_ints();
    }
  }
  // of plane i
  LOWBIT_INLINE void add(const PlaneProduct& product, int i, const Ints (&w)[kVectors], const char* x) {
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      const auto word = [&](int j) __attribute__((always_inline)) {
        int32_t columns;  // broadcast by its load: from a register, that takes a port of the counts
        std::memcpy(&columns, x + 4 * (kWords * r + j), 4);
        return ints(columns);
      };
      const Ints inside = kExclusive ? word(kQ) : no_ints();
      LOWBIT_UNROLL
      for (int j = 0; j < kQ; ++j) {
        const Ints plane = word(j), weight = ints(product.weight[i][j]);
        LOWBIT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          sum[r][v] = add_count(sum[r][v], meeting<kExclusive>(w[v], plane, inside), weight);
        }
      }
    }
  }
  // What has an address is stored in every turn of a loop: a copy has one.
  LOWBIT_INLINE void copy(Ints (&out)[kR][kVectors]) const {
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      LOWBIT_UNROLL
      for (int v = 0; v < kVectors; ++v) out[r][v] = sum[r][v];
    }
  }
};

template <int kP, int kQ, bool kExclusive, int kTiles, int kR>
void run_panel(const BlockArgs& a) {
  constexpr int kStep = panel_step(kTiles), kVectors = kStep * kParts;
  using C = Counts<kQ, kExclusive, kVectors, kR>;
  const PlaneProduct product = *a.planes;
  for (int first = 0; first < kTiles; first += kStep) {
    const auto* x = static_cast<const char*>(a.x);
    const auto* panel = static_cast<const char*>(a.w) + 64 * kP * first;
    for (int32_t p = 0; p < a.count; ++p) {
      C counts;
      counts.clear();
      for (int32_t q = a.pieces[p].quads; q > 0; q -= kUnitQuads) {
        LOWBIT_UNROLL
        for (int i = 0; i < kP; ++i) {
          Ints w[kVectors];
          LOWBIT_UNROLL
          for (int v = 0; v < kVectors; ++v) {
            w[v] = load_ints(panel + 64 * (v / kParts * kP + i) + v % kParts * kBytes);
          }
          counts.add(product, i, w, x);
        }
        x += 4 * C::kWords * kR;
        panel += 64 * kP * kTiles;
      }
      Ints sums[kR][kVectors];
      counts.copy(sums);
      join<kTiles, kStep, kR>(a, p, first, sums);
    }
  }
}

// The planes of the integers of a format: the highest of two's complement is inverted, so that all are unsigned.
LOWBIT_INLINE Ints flip_of(const ElementFormat& f) { return bytes(f.rule == kUnsigned || f.rule == kBipolar ? 0 : -1); }

// Weights straight from tile16 codes, some tiles at a time: as many streams, each of which goes on in the next row of
// tiles where one ends, as what is asked for ahead does.
template <int kP, int kQ, bool kExclusive, int kR>
void run_direct(const BlockArgs& a) {
  constexpr int kTiles = cpu::kDirectTiles, kVectors = 4, kStep = kVectors / kParts, kStream = kTiles / kStep;
  using C = Counts<kQ, kExclusive, kVectors, kR>;
  using Decoder = UnitDecoder<kP>;
  const Decoder decoder;
  const Ints flip = flip_of(*a.codes->format);
  const PlaneProduct product = *a.planes;
  const int64_t quads = (a.codes->cols + 3) / 4, stride = quads * Decoder::kQuadBytes;
  const auto* base = static_cast<const uint8_t*>(a.codes->data) + a.row / kTileRows * stride;
  const auto* x_piece = static_cast<const char*>(a.x);
  for (int32_t p = 0; p < a.count; ++p) {
    const cpu::PieceRun run = a.pieces[p];
    const char* x = x_piece;
    for (int first = 0; first < kStream; ++first) {
      C counts;
      counts.clear();
      x = x_piece;
      const uint8_t* from = base + first * stride + run.quad * Decoder::kQuadBytes;
      const auto unit = [&](int64_t left) __attribute__((always_inline)) {
        Ints w[kP][kVectors];
        LOWBIT_UNROLL
        for (int t = 0; t < kStep; ++t) {
          const uint8_t* tile = from + t * kStream * stride;
          Ints planes[kP][kParts];
          LOWBIT_UNROLL
          for (int i = 0; i < kP; ++i) {
            _mm_prefetch(reinterpret_cast<const char*>(tile) + 64 * i + kAhead, _MM_HINT_T0);
          }
          decoder(tile, left, planes);
          LOWBIT_UNROLL
          for (int i = 0; i < kP * kParts; ++i) {
            const Ints plane = planes[i / kParts][i % kParts];
            w[i / kParts][t * kParts + i % kParts] = i / kParts == kP - 1 ? bit_xor(plane, flip) : plane;
          }
        }
        LOWBIT_UNROLL
        for (int i = 0; i < kP; ++i) counts.add(product, i, w[i], x);
        x += 4 * C::kWords * kR;
        from += kUnitQuads * Decoder::kQuadBytes;
      };
      int64_t q = run.quad;
      const int64_t end = run.quad + run.quads;
      for (; q < end && q + kUnitQuads <= quads; q += kUnitQuads) unit(kUnitQuads);
      if (q < end) unit(quads - q);  // nothing may follow
      Ints sums[kR][kVectors];
      counts.copy(sums);
      for (int t = 0; t < kStep; ++t) {
        Ints of_tile[kR][kParts];
        for (int r = 0; r < kR; ++r) {
          for (int i = 0; i < kParts; ++i) of_tile[r][i] = sums[r][t * kParts + i];
        }
        join<kTiles, 1, kR>(a, p, first + t * kStream, of_tile);
      }
    }
    x_piece = x;
  }
}

// Calls put(unit, planes) for the units of a piece, the highest plane as it is stored.
template <int kBits, class F>
LOWBIT_INLINE void each_unit(const FillArgs& a, const F& put) {
  const int32_t units = (a.quads + kUnitQuads - 1) / kUnitQuads;
  const Codes& codes = *a.codes;
  const int64_t quads = (codes.cols + 3) / 4 - a.quad;  // up to the end of the row
  if (codes.layout == Layout::kTile16) {
    const UnitDecoder<kBits> decoder;
    const auto* p = static_cast<const uint8_t*>(codes.data) +
                    (a.row / kTileRows * ((codes.cols + 3) / 4) + a.quad) * decoder.kQuadBytes;
    for (int32_t u = 0; u < units; ++u, p += kUnitQuads * decoder.kQuadBytes) {
      Ints planes[kBits][kParts];
      decoder(p, quads - kUnitQuads * u, planes);
      put(u, planes);
    }
  } else if (codes.layout == Layout::kCanonical && a.quad % kUnitQuads == 0) {
    const auto* words = static_cast<const int32_t*>(codes.data) + a.quad / kUnitQuads;
    const int64_t rows = codes.rows - a.row, left = (quads + kUnitQuads - 1) / kUnitQuads;
    for (int32_t u = 0; u < units; u += kLanes) {
      Ints v[kBits][kParts][kLanes];
      for (int i = 0; i < kBits * kParts; ++i) {
        Ints(&part)[kLanes] = v[i / kParts][i % kParts];
        for (int l = 0; l < kLanes; ++l) {
          const int r = i % kParts * kLanes + l;
          const int64_t at =
              (kBits - 1 - i / kParts) * codes.plane_stride + (a.row + (r < rows ? r : 0)) * codes.row_stride;
          part[l] = load_ints(words + at + u, left - u);
        }
        transpose(part);
      }
      for (int32_t j = 0; j < kLanes && u + j < units; ++j) {
        Ints planes[kBits][kParts];
        for (int i = 0; i < kBits * kParts; ++i) {
          planes[i / kParts][i % kParts] = in_order(v[i / kParts][i % kParts][j]);
        }
        put(u + j, planes);
      }
    }
  } else {
    const UnitDecoder<1> decoder;
    for (int32_t u = 0; u < units; ++u) {
      alignas(64) uint8_t unpacked[kUnitQuads * 64];
      const int64_t left = quads - kUnitQuads * u;
      const auto count = static_cast<int32_t>(left < kUnitQuads ? left : kUnitQuads);
      unpack_quads(codes, a.row, a.quad + kUnitQuads * u, count, unpacked);
      Ints planes[kBits][kParts];
      for (int i = 0; i < kBits; ++i) {
        uint64_t tiles[kUnitQuads] = {};  // of one bit
        for (int32_t q = 0; q < count; ++q) tiles[q] = bits_of(unpacked + 64 * q, i);
        Ints plane[1][kParts];
        decoder(reinterpret_cast<const uint8_t*>(tiles), kUnitQuads, plane);
        for (int part = 0; part < kParts; ++part) planes[i][part] = plane[0][part];
      }
      put(u, planes);
    }
  }
}

template <int kBits>
void fill_panel(const FillArgs& a) {
  auto* out = static_cast<char*>(a.out);
  const Ints flip = flip_of(*a.codes->format);
  const int32_t columns = a.quads * static_cast<int32_t>(kTileCols) - a.tail;
  const int multiply = a.codes->format->rule == kBipolar ? 2 : 1;
  Ints sum[kParts];
  for (auto& s : sum) s = no_ints();
  each_unit<kBits>(a, [&](int32_t u, const Ints(&planes)[kBits][kParts]) __attribute__((always_inline)) {
    const int32_t left = columns - u * kColumns;
    uint32_t inside = left >= kColumns ? ~0u : (1u << left) - 1;
    if (u == 0) inside &= ~0u << a.head;
    const Ints mask = ints(static_cast<int32_t>(in_order(inside)));
    for (int i = 0; i < kBits; ++i) {
      for (int part = 0; part < kParts; ++part) {
        const Ints plane = i == kBits - 1 ? bit_xor(planes[i][part], flip) : planes[i][part];
        store_ints(out + u * kUnitQuads * a.out_stride + 64 * i + part * kBytes, plane);
        if (a.sum != nullptr) sum[part] = add_count(sum[part], bit_and(plane, mask), bytes(multiply << i));
      }
    }
  });
  if (a.sum == nullptr) return;
  for (int part = 0; part < kParts; ++part) store_ints(a.sum + part * kLanes, sum[part]);
}

LOWBIT_INLINE uint64_t low_bits(int32_t n) { return n >= 64 ? ~uint64_t{0} : n <= 0 ? 0 : (uint64_t{1} << n) - 1; }

// The planes of 64 columns at a time. Numbers of two's complement are their codes. Of bipolar ones, v = 2 c - (2^q -
// 1), those of ~c are packed: v >> 1 is c with its highest bit inverted.
template <int kQ, bool kExclusive>
void pack_planes(const PackArgs& a) {
  constexpr int kWords = words_of(kQ, kExclusive);
  auto* out = static_cast<char*>(a.out);
  for (int32_t c = -a.head; c < a.columns; c += 2 * kColumns) {
    const uint64_t inside = low_bits(a.columns - c) & ~low_bits(-c);
    alignas(64) uint8_t edge[64] = {};
    const auto* columns = reinterpret_cast<const uint8_t*>(a.x) + c;
    if (inside != ~uint64_t{0}) {
      const int32_t begin = c < 0 ? -c : 0, end = a.columns - c < 64 ? a.columns - c : 64;
      std::memcpy(edge + begin, columns + begin, static_cast<size_t>(end - begin));
      columns = edge;
    }
    uint64_t planes[kWords] = {};
    for (int j = 0; j < kQ; ++j) {
      planes[j] = bits_of(columns, j + (kExclusive ? 1 : 0));
      if (kExclusive && j < kQ - 1) planes[j] = ~planes[j];
      planes[j] &= inside;
    }
    if (kExclusive) planes[kQ] = inside;
    for (int unit = 0; unit < 2 && c + unit * kColumns < a.columns; ++unit, out += a.out_stride) {
      uint32_t words[kWords];
      for (int j = 0; j < kWords; ++j) words[j] = in_order(static_cast<uint32_t>(planes[j] >> (kColumns * unit)));
      std::memcpy(out, words, sizeof(words));
    }
  }
}

template <int kP, int kQ, bool kExclusive, int kTiles>
void panel_rows(int rows, const BlockArgs& a) {
  switch (rows) {
    case 1: return run_panel<kP, kQ, kExclusive, kTiles, 1>(a);
    case 2: return run_panel<kP, kQ, kExclusive, kTiles, 2>(a);
    case 3: return run_panel<kP, kQ, kExclusive, kTiles, 3>(a);
    case 4: return run_panel<kP, kQ, kExclusive, kTiles, 4>(a);
    case 5: return run_panel<kP, kQ, kExclusive, kTiles, 5>(a);
    default: return run_panel<kP, kQ, kExclusive, kTiles, 6>(a);
  }
}
template <int kP, int kQ, bool kExclusive>
void panel(int tiles, int rows, const BlockArgs& a) {
  switch (tiles) {
    case 1: return panel_rows<kP, kQ, kExclusive, 1>(rows, a);
    case 2: return panel_rows<kP, kQ, kExclusive, 2>(rows, a);
    default: return panel_rows<kP, kQ, kExclusive, 4>(rows, a);
  }
}
template <int kP, int kQ, bool kExclusive>
void direct(int rows, const BlockArgs& a) {
  switch (rows) {
    case 1: return run_direct<kP, kQ, kExclusive, 1>(a);
    case 2: return run_direct<kP, kQ, kExclusive, 2>(a);
    default: return run_direct<kP, kQ, kExclusive, 3>(a);
  }
}

template <int kP, int kQ, bool kExclusive>
constexpr cpu::Engine engine() {
  constexpr int kWords = words_of(kQ, kExclusive);
  constexpr int32_t kQuads = kPanelBytes / (cpu::kPanelTiles * 8 * kP);
  return {kQuads,
          4 * kWords / kUnitQuads,
          8 * kP,
          cpu::kRows,
          1,
          kUnitQuads,
          0,
          panel<kP, kQ, kExclusive>,
          direct<kP, kQ, kExclusive>,
          fill_panel<kP>,
          nullptr,
          nullptr,
          kUnitQuads,
          pack_planes<kQ, kExclusive>};
}

template <int kP, int kQ>
constexpr cpu::Engine kEngines[2] = {engine<kP, kQ, false>(), engine<kP, kQ, true>()};

}  // namespace

// Those of the table of cpu/plane_product.cpp.
const cpu::Engine* popcount_engine(const PlaneProduct& product) {
  const int x_bits = product.x_bits, exclusive = product.exclusive ? 1 : 0;
  if (product.w_bits == 2) return x_bits == 1 ? &kEngines<2, 1>[exclusive] : &kEngines<2, 2>[exclusive];
  switch (x_bits) {
    case 1: return &kEngines<1, 1>[exclusive];
    case 2: return &kEngines<1, 2>[exclusive];
    case 3: return &kEngines<1, 3>[exclusive];
    default: return &kEngines<1, 4>[exclusive];
  }
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
