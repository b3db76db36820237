// The loops of the GEMM engines of this folder, for one kind of numbers each (Math):
//   kOperands                         64-byte registers of one decoded tile, and 4-byte words of one quad of a row of x
//   Sum                               a register of 16 sums
//   Numbers<bits>                     the decoder: from 64 codes in the order of a tile to kOperands registers
//   kValueZeros                       whether zero points are subtracted from the values
//   word                              which word of x meets an operand
//   start, dot, add, store, to_float  of sums
// Static, as all of this folder's headers.
#pragma once

#include "cpu/avx512/decode.h"
#include "cpu/avx512/gemm_common.h"

#define LOWBIT_UNROLL _Pragma("GCC unroll 8")
#define LOWBIT_INLINE inline __attribute__((always_inline))

namespace lowbit::avx512 {
namespace {

using cpu::BlockArgs;
using cpu::FillArgs;

// Bytes of prefetch, where many short streams or the pages of a long one leave the hardware behind.
constexpr int kAhead = 2048;
constexpr int kDirectAhead = 1024;

template <class Math, int kTiles, int kR>
struct Block {
  using Sum = typename Math::Sum;
  static constexpr int kOperands = Math::kOperands;
  Sum sum[kR][kTiles];

  // f(r, t, index of the tile's values, index of the row's values) for every sum, as straight code.
  template <class F>
  static LOWBIT_INLINE void each(int32_t p, const F& f) {
    LOWBIT_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      LOWBIT_UNROLL
      for (int r = 0; r < kR; ++r) f(r, t, (int64_t{p} * kTiles + t) * 16, int64_t{p} * cpu::kRows + r);
    }
  }

  // Adds operand c of kTiles tiles times kR rows of x.
  LOWBIT_INLINE void add(const __m512i (&w)[kTiles], const char* x, int c) {
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      int32_t word;
      std::memcpy(&word, x + 4 * (r * kOperands + Math::word(c)), 4);
      const __m512i b = _mm512_set1_epi32(word);
      LOWBIT_UNROLL
      for (int t = 0; t < kTiles; ++t) sum[r][t] = Math::dot(sum[r][t], w[t], b);
    }
  }

  // To y or to carry. Branches stand outside of the unrolled code.
  LOWBIT_INLINE void join(const BlockArgs& a, int32_t p) {
    const cpu::PieceRun run = a.pieces[p];
    auto* carry = static_cast<char*>(a.carry);
    const auto at = [](int r, int t) { return (r * kTiles + t) * 16; };
    if (!run.first)
      each(p, [&](int r, int t, int64_t, int64_t) { sum[r][t] = Math::add(sum[r][t], carry + 4 * at(r, t)); });
    if (!run.last) {
      each(p, [&](int r, int t, int64_t, int64_t) { Math::store(sum[r][t], carry + 4 * at(r, t)); });
    } else if (a.x_scale == nullptr && a.w_float_zero == nullptr) {
      each(p, [&](int r, int t, int64_t wi, int64_t) {
        float* y = a.y + at(r, t);
        _mm512_store_ps(y,
                        _mm512_fmadd_ps(Math::to_float(sum[r][t]), _mm512_loadu_ps(a.w_scale + wi), _mm512_load_ps(y)));
      });
    } else if (a.w_float_zero == nullptr) {
      each(p, [&](int r, int t, int64_t wi, int64_t xi) {
        float* y = a.y + at(r, t);
        const __m512 s = _mm512_mul_ps(_mm512_loadu_ps(a.w_scale + wi), _mm512_set1_ps(a.x_scale[xi]));
        _mm512_store_ps(y, _mm512_fmadd_ps(Math::to_float(sum[r][t]), s, _mm512_load_ps(y)));
      });
    } else {
      const bool scaled = a.x_scale != nullptr;
      each(p, [&](int r, int t, int64_t wi, int64_t xi) {
        float* y = a.y + at(r, t);
        __m512 s = _mm512_loadu_ps(a.w_scale + wi);
        if (scaled) s = _mm512_mul_ps(s, _mm512_set1_ps(a.x_scale[xi]));
        const __m512 v = _mm512_fmadd_ps(Math::to_float(sum[r][t]), s, _mm512_load_ps(y));
        const __m512 zero = _mm512_mul_ps(s, _mm512_loadu_ps(a.w_float_zero + wi));
        _mm512_store_ps(y, _mm512_fnmadd_ps(_mm512_set1_ps(a.x_float_sum[xi]), zero, v));
      });
    }
  }
};

// Weights from a panel.
template <class Math, int kTiles, int kR>
void run_panel(const BlockArgs& args) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  constexpr int kOperands = Math::kOperands;
  const auto* x = static_cast<const char*>(a.x);
  const auto* panel = static_cast<const char*>(a.w);
  Block<Math, kTiles, kR> block;
  for (int32_t p = 0; p < a.count; ++p) {
    Math::start(a, p, block);
    for (int32_t q = a.pieces[p].quads; q > 0; --q) {
      _mm_prefetch(x + kAhead, _MM_HINT_T0);
      LOWBIT_UNROLL
      for (int c = 0; c < kOperands; ++c) {
        __m512i w[kTiles];
        LOWBIT_UNROLL
        for (int t = 0; t < kTiles; ++t) w[t] = _mm512_load_si512(panel + 64 * (t * kOperands + c));
        block.add(w, x, c);
      }
      x += 4 * kOperands * kR;
      panel += 64 * kOperands * kTiles;
    }
    block.join(a, p);
  }
}

// Weights straight from tile16 codes, for so few rows of x that a panel would cost more than decoding.
template <class Math, int kBits, int kTiles, int kR>
void run_direct(const BlockArgs& args) {
  const BlockArgs a = args;
  constexpr int kOperands = Math::kOperands;
  using Decoder = TileDecoder<kBits>;
  const Decoder decoder;
  const typename Math::template Numbers<kBits> numbers(*a.codes->format, *a.tables);
  const int64_t quads = (a.codes->cols + 3) / 4, tiles = (a.codes->rows + 15) / 16;
  const int64_t stride = quads * Decoder::kBytes;
  const auto* base = static_cast<const uint8_t*>(a.codes->data) + a.row / 16 * stride;
  const bool at_end = a.row / 16 + kTiles == tiles;
  const auto* x = static_cast<const char*>(a.x);
  Block<Math, kTiles, kR> block;
  for (int32_t p = 0; p < a.count; ++p) {
    const cpu::PieceRun run = a.pieces[p];
    const uint8_t* from = base + run.quad * Decoder::kBytes;
    Math::start(a, p, block);
    const float* zeros = a.w_value_zero != nullptr ? a.w_value_zero + int64_t{p} * kTiles * 16 : nullptr;
    const auto step = [&](bool whole, bool has_zero) __attribute__((always_inline)) {
      __m512i w[kOperands][kTiles];
      LOWBIT_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        const uint8_t* tile = from + t * stride;
        _mm_prefetch(reinterpret_cast<const char*>(tile) + kDirectAhead, _MM_HINT_T0);
        __m512i operands[kOperands];
        const __m512i codes = decoder(tile, whole);
        has_zero ? numbers(codes, zeros + 16 * t, operands) : numbers(codes, operands);
        LOWBIT_UNROLL
        for (int c = 0; c < kOperands; ++c) w[c][t] = operands[c];
      }
      LOWBIT_UNROLL
      for (int c = 0; c < kOperands; ++c) block.add(w[c], x, c);
      x += 4 * kOperands * kR;
      from += Decoder::kBytes;
    };
    // the load of the very last tile may reach past the codes
    const bool guard = at_end && run.quad + run.quads == quads;
    int32_t q = guard ? 1 : 0;
    if (Math::kValueZeros && zeros != nullptr) {
      for (; q < run.quads; ++q) step(true, true);
      if (guard) step(false, true);
    } else {
      for (; q < run.quads; ++q) step(true, false);
      if (guard) step(false, false);
    }
    block.join(a, p);
  }
}

// The same from codes of any other layout, unpacked a few quads ahead: the codes of all tiles stay in L1.
template <class Math, int kBits, int kTiles, int kR>
void run_unpacked(const BlockArgs& args) {
  const BlockArgs a = args;
  constexpr int kOperands = Math::kOperands;
  constexpr int32_t kStep = 32;  // quads: 16 bytes of a row of a plane
  alignas(64) uint8_t codes[kTiles][kStep * 64];
  const typename Math::template Numbers<kBits> numbers(*a.codes->format, *a.tables);
  const int64_t quads = (a.codes->cols + 3) / 4;
  int64_t begin = 0, end = 0;  // the quads in `codes`
  const auto* x = static_cast<const char*>(a.x);
  Block<Math, kTiles, kR> block;
  for (int32_t p = 0; p < a.count; ++p) {
    const cpu::PieceRun run = a.pieces[p];
    Math::start(a, p, block);
    const float* zeros = a.w_value_zero != nullptr ? a.w_value_zero + int64_t{p} * kTiles * 16 : nullptr;
    for (int64_t q = run.quad; q < run.quad + run.quads;) {
      if (q < begin || q >= end) {
        begin = q / 8 * 8;  // a word of a plane
        end = begin + kStep < quads ? begin + kStep : quads;
        for (int t = 0; t < kTiles; ++t) {
          unpack_quads(*a.codes, a.row + 16 * t, begin, static_cast<int32_t>(end - begin), codes[t]);
        }
      }
      const int64_t stop = end < run.quad + run.quads ? end : run.quad + run.quads;
      const uint8_t* from = codes[0] + 64 * (q - begin);
      const auto steps = [&](bool has_zero) __attribute__((always_inline)) {
        for (; q < stop; ++q) {
          __m512i w[kOperands][kTiles];
          LOWBIT_UNROLL
          for (int t = 0; t < kTiles; ++t) {
            __m512i operands[kOperands];
            const __m512i tile = _mm512_load_si512(from + t * kStep * 64);
            has_zero ? numbers(tile, zeros + 16 * t, operands) : numbers(tile, operands);
            LOWBIT_UNROLL
            for (int c = 0; c < kOperands; ++c) w[c][t] = operands[c];
          }
          LOWBIT_UNROLL
          for (int c = 0; c < kOperands; ++c) block.add(w[c], x, c);
          x += 4 * kOperands * kR;
          from += 64;
        }
      };
      Math::kValueZeros&& zeros != nullptr ? steps(true) : steps(false);
    }
    block.join(a, p);
  }
}

template <class Math, int kBits>
void fill_panel(const FillArgs& a) {
  constexpr int kOperands = Math::kOperands;
  const typename Math::template Numbers<kBits> numbers(*a.codes->format, *a.tables);
  auto* out = static_cast<char*>(a.out);
  __m512i sum = _mm512_setzero_si512();
  const bool has_zero = a.zero != nullptr;
  const auto put = [&](int32_t q, __m512i codes) {
    __m512i operands[kOperands];
    has_zero ? numbers(codes, a.zero, operands) : numbers(codes, operands);
    LOWBIT_UNROLL
    for (int c = 0; c < kOperands; ++c) _mm512_store_si512(out + q * a.out_stride + 64 * c, operands[c]);
    if (a.sum != nullptr) {
      uint32_t ones = 0x01010101u;  // but for the columns outside the piece
      if (q == 0) ones &= ~0u << (8 * a.head);
      if (q + 1 == a.quads) ones &= ~0u >> (8 * a.tail);
      sum = _mm512_dpbusd_epi32(sum, operands[0], _mm512_set1_epi32(static_cast<int32_t>(ones)));
    }
  };
  if (a.codes->layout == Layout::kTile16) {
    using Decoder = TileDecoder<kBits>;
    const Decoder decoder;
    const int64_t quads = (a.codes->cols + 3) / 4, tiles = (a.codes->rows + 15) / 16;
    const auto* data = static_cast<const uint8_t*>(a.codes->data);
    const auto* p = data + (a.row / 16 * quads + a.quad) * Decoder::kBytes;
    const auto* end = data + tiles * quads * Decoder::kBytes;
    int32_t q = 0;
    for (; q < a.quads && end - p >= Decoder::kLoad; ++q, p += Decoder::kBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(p) + kAhead, _MM_HINT_T0);
      put(q, decoder(p, true));
    }
    for (; q < a.quads; ++q, p += Decoder::kBytes) put(q, decoder(p, false));
  } else {
    constexpr int32_t kStep = 128;  // quads
    alignas(64) uint8_t codes[kStep * 64];
    for (int32_t q = 0; q < a.quads; q += kStep) {
      const int32_t count = a.quads - q < kStep ? a.quads - q : kStep;
      unpack_quads(*a.codes, a.row, a.quad + q, count, codes);
      for (int32_t i = 0; i < count; ++i) put(q + i, _mm512_load_si512(codes + 64 * i));
    }
  }
  if (a.sum != nullptr) _mm512_storeu_si512(a.sum, sum);
}

// The tables of instances.
template <class Math, int kTiles>
void panel_rows(int rows, const BlockArgs& a) {
  switch (rows) {
    case 1: return run_panel<Math, kTiles, 1>(a);
    case 2: return run_panel<Math, kTiles, 2>(a);
    case 3: return run_panel<Math, kTiles, 3>(a);
    case 4: return run_panel<Math, kTiles, 4>(a);
    case 5: return run_panel<Math, kTiles, 5>(a);
    default: return run_panel<Math, kTiles, 6>(a);
  }
}
template <class Math>
void panel(int tiles, int rows, const BlockArgs& a) {
  switch (tiles) {
    case 1: return panel_rows<Math, 1>(rows, a);
    case 2: return panel_rows<Math, 2>(rows, a);
    default: return panel_rows<Math, 4>(rows, a);
  }
}

template <class Math, int kBits, int kR>
void direct_layout(const BlockArgs& a) {
  a.codes->layout == Layout::kTile16 ? run_direct<Math, kBits, cpu::kDirectTiles, kR>(a)
                                     : run_unpacked<Math, kBits, cpu::kDirectTiles, kR>(a);
}
template <class Math, int kBits>
void direct_rows(int rows, const BlockArgs& a) {
  switch (rows) {
    case 1: return direct_layout<Math, kBits, 1>(a);
    case 2: return direct_layout<Math, kBits, 2>(a);
    default: return direct_layout<Math, kBits, 3>(a);
  }
}
template <class Math>
void direct(int rows, const BlockArgs& a) {
  switch (a.codes->format->bits) {
    case 1: return direct_rows<Math, 1>(rows, a);
    case 2: return direct_rows<Math, 2>(rows, a);
    case 3: return direct_rows<Math, 3>(rows, a);
    case 4: return direct_rows<Math, 4>(rows, a);
    case 5: return direct_rows<Math, 5>(rows, a);
    case 6: return direct_rows<Math, 6>(rows, a);
    case 7: return direct_rows<Math, 7>(rows, a);
    default: return direct_rows<Math, 8>(rows, a);
  }
}

template <class Math>
void fill(const FillArgs& a) {
  switch (a.codes->format->bits) {
    case 1: return fill_panel<Math, 1>(a);
    case 2: return fill_panel<Math, 2>(a);
    case 3: return fill_panel<Math, 3>(a);
    case 4: return fill_panel<Math, 4>(a);
    case 5: return fill_panel<Math, 5>(a);
    case 6: return fill_panel<Math, 6>(a);
    case 7: return fill_panel<Math, 7>(a);
    default: return fill_panel<Math, 8>(a);
  }
}

// An engine whose panels hold `quads` quads.
template <class Math>
constexpr cpu::Engine engine(int32_t quads) {
  return {quads, 4 * Math::kOperands, 64 * Math::kOperands, panel<Math>, direct<Math>, fill<Math>};
}

// Sums in fp32.
struct FloatSums {
  using Sum = __m512;
  template <class B>
  static LOWBIT_INLINE void start(const BlockArgs&, int32_t p, B& b) {
    B::each(p, [&](int r, int t, int64_t, int64_t) { b.sum[r][t] = _mm512_setzero_ps(); });
  }
  static LOWBIT_INLINE Sum add(Sum sum, const char* carry) { return _mm512_add_ps(sum, _mm512_load_ps(carry)); }
  static LOWBIT_INLINE void store(Sum sum, char* carry) { _mm512_store_ps(carry, sum); }
  static LOWBIT_INLINE __m512 to_float(Sum sum) { return sum; }
};

}  // namespace
}  // namespace lowbit::avx512
