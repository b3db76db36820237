// The engines of bit planes: AND (or XOR) of a plane of w and one of x, vpopcntb, vpdpbusd with the weight of the pair.
//
//   w       operands[plane] of 32 columns: 32-bit lane r has them of row r of a tile
//   x       words[plane] of 32 columns of a row (PlaneProduct::words, rounded up to an even number)
// Column c = 16 h + 4 b + t of the 32 is bit 8 b + 4 h + t of a lane and a word: the order in which the nibbles of eight
// tile16 quads come together. Sums stay in the lanes of their rows, so that a segment costs a join and no more.
//
// Floors: 512 products of a pair of planes are three instructions for two ports (vpopcntb on one of them), 1.5 cycles;
// the same 512 by vpdpbusd are 4 cycles, by tdpbusd half of one. A carry-save adder takes a word off for two instructions,
// as vpopcntb and vpdpbusd do, and gains nothing. So planes win where p q < 3, or where there are few rows of x, since
// decoding 512 weights takes p (2.5 to 3.5) cycles and vpdpbusd's 24.
#include "cpu/avx512/popcount_gemm.h"

#include "cpu/simd/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

using cpu::PackArgs;
using cpu::PlaneProduct;

constexpr int kUnit = 8;  // quads: 32 columns
constexpr int kColumns = kUnit * static_cast<int>(kTileCols);
constexpr int kPanelBytes = 32 << 10;  // of kPanelTiles tiles

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

// The counts of a piece, [row][tile][16], to y or to carry: one copy for the engines of all planes.
template <int kTiles, int kR>
__attribute__((noinline)) void join(const BlockArgs& args, int32_t p, const Ints* counts) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  Block<PlaneSums, kTiles, kTiles, kR> block;
  block.first = 0;
  block.each(p, [&](int r, int v, int64_t, int64_t) { block.sum[r][v] = counts[r * kTiles + v]; });
  PlaneSums::add_start(a, p, block);
  block.join(a, p);
}

// Eight quads of a tile as operands of 32 columns. A plane's nibbles of rows 2 k and 2 k + 1 share a byte of a quad: two
// permutes bring the bytes of 4 quads each to both rows, shifts within them the nibble of the row to its half.
template <int kBits>
struct UnitDecoder {
  static constexpr int kQuadBytes = 8 * kBits;
  Ints near[kBits], far[kBits];  // of plane i: bytes of quads 0..3 and of 4..7
  Ints low, high;                // shifts
  Ints flip;                     // of the highest plane

  explicit UnitDecoder(const ElementFormat& f)
      : flip(bytes(f.rule == kUnsigned || f.rule == kBipolar ? 0 : -1)) {
    alignas(64) uint8_t index[64], low_bits[64], high_bits[64];
    for (int i = 0; i < kBits; ++i) {
      for (int half = 0; half < 2; ++half) {
        for (int r = 0; r < 16; ++r) {
          for (int b = 0; b < 4; ++b) {
            const int quad = kBits == 1 ? b + 4 * half : b;  // two bits: a load of its own for each half
            index[4 * r + b] = static_cast<uint8_t>(quad * kQuadBytes + r / 2 * kBits + i);
          }
        }
        (half == 0 ? near : far)[i] = load_ints(index);
      }
    }
    for (int j = 0; j < 64; ++j) {
      const int odd = j / 4 % 2;
      low_bits[j] = static_cast<uint8_t>(8 * (j % 8) + 4 * odd);
      high_bits[j] = static_cast<uint8_t>((8 * (j % 8) + 60 + 4 * odd) % 64);
    }
    low = load_ints(low_bits);
    high = load_ints(high_bits);
  }

  // `left` quads follow at p.
  LOWBIT_INLINE void operator()(const uint8_t* p, int64_t left, Ints (&planes)[kBits]) const {
    Ints first, second;
    if (left >= kUnit) {
      first = load_ints(p);
      second = kBits == 1 ? first : load_ints(p + 64);
    } else {
      first = load_bytes(p, left * kQuadBytes);
      second = kBits == 1 ? first : load_bytes(p + 64, left * kQuadBytes - 64);
    }
    LOWBIT_UNROLL
    for (int i = 0; i < kBits; ++i) {
      planes[i] = nibbles(_mm512_permutexvar_epi8(near[i], first), _mm512_permutexvar_epi8(far[i], second));
    }
    planes[kBits - 1] = bit_xor(planes[kBits - 1], flip);
  }

  LOWBIT_INLINE Ints nibbles(Ints of_near, Ints of_far) const {
    constexpr int kSelect = 0xca;
    return _mm512_ternarylogic_epi32(bytes(0x0f), _mm512_multishift_epi64_epi8(low, of_near),
                                     _mm512_multishift_epi64_epi8(high, of_far), kSelect);
  }
};

// 32 columns in the order of a lane.
inline uint32_t in_order(uint32_t columns) {
  return _pdep_u32(columns & 0xffff, 0x0f0f0f0f) | _pdep_u32(columns >> 16, 0xf0f0f0f0);
}

// Adds the counts of w's planes with `kR` rows of x.
template <int kP, int kQ, bool kExclusive, int kTiles, int kR>
struct Counts {
  static constexpr int kWords = (kQ + (kExclusive ? 1 : 0) + 1) / 2 * 2;
  Ints sum[kR][kTiles];

  LOWBIT_INLINE void clear() {
    LOWBIT_UNROLL
    for (auto& row : sum) {
      LOWBIT_UNROLL
      for (auto& s : row) s = no_ints();
    }
  }
  // of plane i
  LOWBIT_INLINE void add(const PlaneProduct& product, int i, const Ints (&w)[kTiles], const char* x) {
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      const auto word = [&](int j) __attribute__((always_inline)) {
        int32_t w;  // broadcast by its load: from a register, that takes the port of vpopcntb
        std::memcpy(&w, x + 4 * (kWords * r + j), 4);
        return ints(w);
      };
      const Ints inside = kExclusive ? word(kQ) : no_ints();
      LOWBIT_UNROLL
      for (int j = 0; j < kQ; ++j) {
        constexpr int kDiffer = 0x28;  // (a ^ b) & c
        const Ints plane = word(j), weight = ints(product.weight[i][j]);
        LOWBIT_UNROLL
        for (int t = 0; t < kTiles; ++t) {
          const Ints ones = kExclusive ? _mm512_ternarylogic_epi32(w[t], plane, inside, kDiffer)
                                       : bit_and(w[t], plane);
          sum[r][t] = _mm512_dpbusd_epi32(sum[r][t], _mm512_popcnt_epi8(ones), weight);
        }
      }
    }
  }
};

template <int kP, int kQ, bool kExclusive, int kTiles, int kR>
void run_panel(const BlockArgs& a) {
  using C = Counts<kP, kQ, kExclusive, kTiles, kR>;
  const auto* x = static_cast<const char*>(a.x);
  const auto* panel = static_cast<const char*>(a.w);
  const PlaneProduct product = *a.planes;
  for (int32_t p = 0; p < a.count; ++p) {
    C counts;
    counts.clear();
    for (int32_t q = a.pieces[p].quads; q > 0; q -= kUnit) {
      LOWBIT_UNROLL
      for (int i = 0; i < kP; ++i) {
        Ints w[kTiles];
        LOWBIT_UNROLL
        for (int t = 0; t < kTiles; ++t) w[t] = load_ints(panel + 64 * (t * kP + i));
        counts.add(product, i, w, x);
      }
      x += 4 * C::kWords * kR;
      panel += 64 * kP * kTiles;
    }
    Ints sums[kR][kTiles];  // not `counts`: what has an address would be stored in every turn
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      LOWBIT_UNROLL
      for (int t = 0; t < kTiles; ++t) sums[r][t] = counts.sum[r][t];
    }
    join<kTiles, kR>(a, p, sums[0]);
  }
}

// Weights straight from tile16 codes.
template <int kP, int kQ, bool kExclusive, int kR>
void run_direct(const BlockArgs& a) {
  constexpr int kTiles = cpu::kDirectTiles, kStep = 2;
  using C = Counts<kP, kQ, kExclusive, kStep, kR>;
  using Decoder = UnitDecoder<kP>;
  const Decoder decoder(*a.codes->format);
  const PlaneProduct product = *a.planes;
  const int64_t quads = (a.codes->cols + 3) / 4, stride = quads * Decoder::kQuadBytes;
  const auto* base = static_cast<const uint8_t*>(a.codes->data) + a.row / kTileRows * stride;
  const auto* x_piece = static_cast<const char*>(a.x);
  for (int32_t p = 0; p < a.count; ++p) {
    const cpu::PieceRun run = a.pieces[p];
    Ints counts[kR][kTiles];
    const auto* x = x_piece;
    for (int first = 0; first < kTiles; first += kStep) {
      C step;
      step.clear();
      x = x_piece;
      const uint8_t* from = base + first * stride + run.quad * Decoder::kQuadBytes;
      const auto unit = [&](int64_t left) __attribute__((always_inline)) {
        Ints w[kP][kStep];
        LOWBIT_UNROLL
        for (int t = 0; t < kStep; ++t) {
          const uint8_t* tile = from + t * stride;
          Ints planes[kP];
          LOWBIT_UNROLL
          for (int i = 0; i < kP; ++i) {
            _mm_prefetch(reinterpret_cast<const char*>(tile) + 64 * i + kAhead, _MM_HINT_T0);
          }
          decoder(tile, left, planes);
          LOWBIT_UNROLL
          for (int i = 0; i < kP; ++i) w[i][t] = planes[i];
        }
        LOWBIT_UNROLL
        for (int i = 0; i < kP; ++i) step.add(product, i, w[i], x);
        x += 4 * C::kWords * kR;
        from += kUnit * Decoder::kQuadBytes;
      };
      int64_t q = run.quad;
      const int64_t end = run.quad + run.quads;
      for (; q < end && q + kUnit <= quads; q += kUnit) unit(kUnit);
      if (q < end) unit(quads - q);  // nothing may follow
      LOWBIT_UNROLL
      for (int r = 0; r < kR; ++r) {
        LOWBIT_UNROLL
        for (int t = 0; t < kStep; ++t) counts[r][first + t] = step.sum[r][t];
      }
    }
    x_piece = x;
    join<kTiles, kR>(a, p, counts[0]);
  }
}

// Calls put(unit, planes) for the units of a piece.
template <int kBits, class F>
LOWBIT_INLINE void each_unit(const FillArgs& a, const F& put) {
  const UnitDecoder<kBits> decoder(*a.codes->format);
  const int32_t units = (a.quads + kUnit - 1) / kUnit;
  const Codes& codes = *a.codes;
  if (codes.layout == Layout::kTile16) {
    const int64_t quads = (codes.cols + 3) / 4;
    const auto* p =
        static_cast<const uint8_t*>(codes.data) + (a.row / kTileRows * quads + a.quad) * decoder.kQuadBytes;
    for (int32_t u = 0; u < units; ++u, p += kUnit * decoder.kQuadBytes) {
      Ints planes[kBits];
      decoder(p, quads - a.quad - kUnit * u, planes);
      put(u, planes);
    }
  } else if (codes.layout == Layout::kCanonical && a.quad % kUnit == 0) {
    const auto* words = static_cast<const int32_t*>(codes.data);
    const int64_t rows = codes.rows - a.row, left = (codes.cols + kColumns - 1) / kColumns - a.quad / kUnit;
    alignas(64) uint8_t low_bits[64], high_bits[64];
    for (int j = 0; j < 64; ++j) {
      const int dword = 32 * (j / 4 % 2), b = j % 4;
      low_bits[j] = static_cast<uint8_t>(dword + 4 * b);
      high_bits[j] = static_cast<uint8_t>((dword + 12 + 4 * b) % 64);
    }
    const Ints low = load_ints(low_bits), high = load_ints(high_bits);
    for (int32_t u = 0; u < units; u += kLanes) {
      Ints v[kBits][kLanes];
      LOWBIT_UNROLL
      for (int i = 0; i < kBits; ++i) {
        for (int64_t r = 0; r < kLanes; ++r) {
          const int64_t at = (kBits - 1 - i) * codes.plane_stride + (a.row + (r < rows ? r : 0)) * codes.row_stride;
          v[i][r] = load_ints(words + at + a.quad / kUnit + u, left - u);
        }
        transpose(v[i]);
      }
      for (int32_t j = 0; j < kLanes && u + j < units; ++j) {
        Ints planes[kBits];
        LOWBIT_UNROLL
        for (int i = 0; i < kBits; ++i) {
          constexpr int kSelect = 0xca;
          planes[i] = _mm512_ternarylogic_epi32(bytes(0x0f), _mm512_multishift_epi64_epi8(low, v[i][j]),
                                                _mm512_multishift_epi64_epi8(high, v[i][j]), kSelect);
        }
        planes[kBits - 1] = bit_xor(planes[kBits - 1], decoder.flip);
        put(u + j, planes);
      }
    }
  } else {
    for (int32_t u = 0; u < units; ++u) {
      alignas(64) uint8_t unpacked[kUnit * 64];
      const int64_t left = (codes.cols + 3) / 4 - a.quad - kUnit * u;
      const auto count = static_cast<int32_t>(left < kUnit ? left : kUnit);
      unpack_quads(codes, a.row, a.quad + kUnit * u, count, unpacked);
      Ints planes[kBits];
      const UnitDecoder<1> of_plane(*a.codes->format);
      LOWBIT_UNROLL
      for (int i = 0; i < kBits; ++i) {
        alignas(64) uint64_t quads[kUnit] = {};
        for (int32_t q = 0; q < count; ++q) {
          quads[q] = _mm512_movepi8_mask(_mm512_slli_epi16(load_ints(unpacked + 64 * q), 7 - i));
        }
        const Ints tile = load_ints(quads);
        planes[i] = of_plane.nibbles(_mm512_permutexvar_epi8(of_plane.near[0], tile),
                                     _mm512_permutexvar_epi8(of_plane.far[0], tile));
      }
      planes[kBits - 1] = bit_xor(planes[kBits - 1], decoder.flip);
      put(u, planes);
    }
  }
}

template <int kBits>
void fill_panel(const FillArgs& a) {
  auto* out = static_cast<char*>(a.out);
  if (a.sum == nullptr) {
    each_unit<kBits>(a, [&](int32_t u, const Ints(&planes)[kBits]) {
      for (int i = 0; i < kBits; ++i) store_ints(out + u * kUnit * a.out_stride + 64 * i, planes[i]);
    });
    return;
  }
  const int32_t columns = a.quads * static_cast<int32_t>(kTileCols) - a.tail;
  const int multiply = a.codes->format->rule == kBipolar ? 2 : 1;
  Ints sum = no_ints();
  each_unit<kBits>(a, [&](int32_t u, const Ints(&planes)[kBits]) {
    const int32_t left = columns - u * kColumns;
    uint32_t inside = left >= kColumns ? ~0u : (1u << left) - 1;
    if (u == 0) inside &= ~0u << a.head;
    const Ints mask = ints(static_cast<int32_t>(in_order(inside)));
    for (int i = 0; i < kBits; ++i) {
      store_ints(out + u * kUnit * a.out_stride + 64 * i, planes[i]);
      sum = _mm512_dpbusd_epi32(sum, _mm512_popcnt_epi8(bit_and(planes[i], mask)), bytes(multiply << i));
    }
  });
  store_ints(a.sum, sum);
}

// The planes of 64 columns at a time. Numbers of two's complement are their codes; bipolar ones, 2 c - (2^q - 1), are
// packed as those of ~c.
template <int kQ, bool kExclusive>
void pack_planes(const PackArgs& a) {
  constexpr int kWords = (kQ + (kExclusive ? 1 : 0) + 1) / 2 * 2;
  auto* out = static_cast<char*>(a.out);
  for (int32_t c = -a.head; c < a.columns; c += 2 * kColumns) {
    const int32_t skip = c < 0 ? -c : 0;
    const __mmask64 inside = bytes_below(a.columns - c) & ~bytes_below(skip);
    Ints v = _mm512_maskz_loadu_epi8(inside, a.x + c);
    if (kExclusive) v = _mm512_sub_epi8(bytes((1 << kQ) - 1), v);
    uint64_t planes[kWords] = {};
    for (int j = 0; j < kQ; ++j) {
      planes[j] = _mm512_movepi8_mask(_mm512_slli_epi16(v, 7 - j - (kExclusive ? 1 : 0))) & inside;
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
  constexpr int kWords = Counts<kP, kQ, kExclusive, 1, 1>::kWords;
  constexpr int32_t kQuads = kPanelBytes / (cpu::kPanelTiles * 8 * kP);
  return {kQuads,
          4 * kWords / kUnit,
          8 * kP,
          cpu::kRows,
          1,
          kUnit,
          0,
          panel<kP, kQ, kExclusive>,
          direct<kP, kQ, kExclusive>,
          fill_panel<kP>,
          nullptr,
          nullptr,
          kUnit,
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

}  // namespace lowbit::avx512
