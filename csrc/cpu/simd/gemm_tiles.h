// The loops of the GEMM engines of the instruction sets, for one kind of numbers each (Math):
//   kOperands                         64-byte operands of one decoded tile, and 4-byte words of one quad of a row of x
//   Sum                               a vector of sums
//   Numbers<bits>                     the decoder: from the codes of kLanes rows in the order of a tile to kOperands
//                                     vectors
//   with_decoder<bits>(a, f)          calls f(decoder of tiles, Numbers for what it gives)
//   kQuadsOfByte<bits>                of how many quads a direct block decodes the codes into one byte; where more than
//                                     one, Quads<bits>: decode(p, true, codes), and the operand of a quad and a column
//   kValueZeros                       whether zero points are subtracted from the values
//   kPartials                         whether sums of `partial_quads` quads fit 16 bits: Partial, dot of it, widen;
//                                     of floats (kValueZeros): sums whose order is that of such partial sums
//   word                              which word of x meets an operand
//   start, add_start, dot, resume, save, to_float
//                                     of sums
//   count                             sums of weights (integers)
// A tile of 16 rows is kParts vectors. Its sums stay in registers for kStep tiles of a panel at a time.
#pragma once

#include "cpu/simd/gemm_decode.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

using cpu::BlockArgs;
using cpu::FillArgs;

// Bytes of prefetch, where many short streams or the pages of a long one leave the hardware behind. Where a row of
// tiles ends within them, the streams of a direct block are asked for where they go on: in the next block.
constexpr int kAhead = 2048;
constexpr int kDirectAhead = 1024;

// Below it, sums in 16 bits cost more to widen than they save.
constexpr int32_t kLeastPartialQuads = 4;

constexpr int kParts = static_cast<int>(kTileRows) / kLanes;

// Tiles whose sums with 6 rows of x (a panel) and with 3 (direct) fit the registers.
constexpr int panel_step(int tiles) { return kVectorRegisters >= 32 ? tiles : 1; }
constexpr int direct_step(int tiles) { return kVectorRegisters >= 32 ? tiles : 2; }

template <class Math, int kTiles, int kStep, int kR>
struct Block {
  using Sum = typename Math::Sum;
  static constexpr int kOperands = Math::kOperands;
  static constexpr int kVectors = kStep * kParts;
  int first;  // of kStep tiles among kTiles
  Sum sum[kR][kVectors];

  // Of vector v of piece p.
  LOWBIT_INLINE Floats scale(const BlockArgs& a, int32_t p, int v) const {
    return load(a.w_scale + p * a.w_scale_step + first * static_cast<int>(kTileRows) + v * kLanes);
  }

  // f(r, v, index of the vector's values, index of the row's values) for every sum, as straight code.
  template <class F>
  LOWBIT_INLINE void each(int32_t p, const F& f) {
    LOWBIT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      LOWBIT_UNROLL
      for (int r = 0; r < kR; ++r) {
        f(r, v, (int64_t{p} * kTiles + first) * kTileRows + v * kLanes, int64_t{p} * cpu::kRows + r);
      }
    }
  }

  // Adds operand c of kStep tiles times kR rows of x to `to`, which is `sum` or partial sums.
  template <class To>
  static LOWBIT_INLINE void add(To (&to)[kR][kVectors], const Ints (&w)[kVectors], const char* x, int c) {
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      int32_t word;
      std::memcpy(&word, x + 4 * (r * kOperands + Math::word(c)), 4);
      const Ints b = ints(word);
      LOWBIT_UNROLL
      for (int v = 0; v < kVectors; ++v) to[r][v] = Math::dot(to[r][v], w[v], b);
    }
  }

  // The same of one vector: all that a quad of several tiles decodes to would not stay in registers.
  template <class To>
  static LOWBIT_INLINE void add(To (&to)[kR][kVectors], Ints w, int v, const char* x, int c) {
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      int32_t word;
      std::memcpy(&word, x + 4 * (r * kOperands + Math::word(c)), 4);
      to[r][v] = Math::dot(to[r][v], w, ints(word));
    }
  }

  // Of a sum in y and in carry. No lambda of join(): one that others capture would keep the sums in memory, stored in
  // every turn of the loops.
  LOWBIT_INLINE int at(int r, int v) const { return (r * kTiles + first) * static_cast<int>(kTileRows) + v * kLanes; }

  // To y or to carry. Branches stand outside of the unrolled code.
  LOWBIT_INLINE void join(const BlockArgs& a, int32_t p) {
    const cpu::PieceRun run = a.pieces[p];
    auto* carry = static_cast<char*>(a.carry);
    if (!run.first)
      each(p, [&](int r, int v, int64_t, int64_t) { sum[r][v] = Math::resume(sum[r][v], carry + 4 * at(r, v)); });
    if (!run.last) {
      each(p, [&](int r, int v, int64_t, int64_t) { Math::save(sum[r][v], carry + 4 * at(r, v)); });
    } else if (a.x_scale == nullptr && a.w_float_zero == nullptr) {
      each(p, [&](int r, int v, int64_t, int64_t) {
        float* y = a.y + at(r, v);
        store(y, fma(Math::to_float(sum[r][v]), scale(a, p, v), load(y)));
      });
    } else if (a.w_float_zero == nullptr) {
      each(p, [&](int r, int v, int64_t, int64_t xi) {
        float* y = a.y + at(r, v);
        const Floats s = mul(scale(a, p, v), floats(a.x_scale[xi]));
        store(y, fma(Math::to_float(sum[r][v]), s, load(y)));
      });
    } else {
      const bool scaled = a.x_scale != nullptr;
      each(p, [&](int r, int v, int64_t wi, int64_t xi) {
        float* y = a.y + at(r, v);
        Floats s = scale(a, p, v);
        if (scaled) s = mul(s, floats(a.x_scale[xi]));
        const Floats first_term = fma(Math::to_float(sum[r][v]), s, load(y));
        const Floats zero = mul(s, load(a.w_float_zero + wi));
        store(y, fnma(floats(a.x_float_sum[xi]), zero, first_term));
      });
    }
  }
};

// Weights from a panel.
template <class Math, int kTiles, int kR>
void run_panel(const BlockArgs& args) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  constexpr int kOperands = Math::kOperands, kStep = panel_step(kTiles);
  using Step = Block<Math, kTiles, kStep, kR>;
  for (int first = 0; first < kTiles; first += kStep) {
    const auto* x = static_cast<const char*>(a.x);
    const auto* panel = static_cast<const char*>(a.w) + 64 * kOperands * first;
    Step block;
    block.first = first;
    const auto quad = [&](auto& to) __attribute__((always_inline)) {
      if (kStep == kTiles) _mm_prefetch(x + kAhead, _MM_HINT_T0);
      LOWBIT_UNROLL
      for (int c = 0; c < kOperands; ++c) {
        Ints w[Step::kVectors];
        LOWBIT_UNROLL
        for (int v = 0; v < Step::kVectors; ++v) {
          w[v] = load_ints(panel + 64 * (v / kParts * kOperands + c) + v % kParts * kBytes);
        }
        Step::add(to, w, x, c);
      }
      x += 4 * kOperands * kR;
      panel += 64 * kOperands * kTiles;
    };
    for (int32_t p = 0; p < a.count; ++p) {
      Math::start(a, p, block);
      int32_t q = a.pieces[p].quads;
      if constexpr (Math::kPartials) {
        if (a.partial_quads >= kLeastPartialQuads) {
          while (q > 0) {
            typename Math::Partial part[kR][Step::kVectors];
            block.each(p, [&](int r, int v, int64_t, int64_t) { part[r][v] = typename Math::Partial{no_ints()}; });
            const int32_t n = q < a.partial_quads ? q : a.partial_quads;
            for (int32_t i = n; i > 0; --i) quad(part);
            block.each(
                p, [&](int r, int v, int64_t, int64_t) { block.sum[r][v] = Math::widen(block.sum[r][v], part[r][v]); });
            q -= n;
          }
        }
      }
      for (; q > 0; --q) quad(block.sum);
      block.join(a, p);
    }
  }
}

// Weights straight from tile16 codes, for so few rows of x that a panel would cost more than decoding.
template <class Math, int kBits, int kTiles, int kR, class Decoder, class Numbers>
void run_direct(const BlockArgs& args, const Decoder decoder, const Numbers numbers) {
  const BlockArgs a = args;
  constexpr int kQuads = Math::template kQuadsOfByte<kBits>;
  // Products of one quad after the other wait for each other: of several tiles together they do not, and four indices
  // a tile stay in registers.
  constexpr int kOperands = Math::kOperands, kStep = kQuads > 1 ? kTiles / 2 : direct_step(kTiles);
  const typename Math::template Quads<kBits> quads_of_byte(*a.tables);
  using Step = Block<Math, kTiles, kStep, kR>;
  const int64_t quads = (a.codes->cols + 3) / 4, tiles = (a.codes->rows + 15) / 16;
  const int64_t stride = quads * Decoder::kBytes;
  // Quads whose codes take a cache line, with one prefetch; where decoding is most of a quad they gain nothing by it.
  constexpr int kLine = kOperands == 1 && Decoder::kBytes <= 32 ? 64 / Decoder::kBytes : 1;
  const auto* base = static_cast<const uint8_t*>(a.codes->data) + a.row / 16 * stride;
  const bool at_end = a.row / 16 + kTiles == tiles;
  const int64_t to_next = a.next_row < 0 ? 0 : ((a.next_row - a.row) / 16 - 1) * stride;
  for (int first = 0; first < kTiles; first += kStep) {
    const auto* x = static_cast<const char*>(a.x);
    Step block;
    block.first = first;
    for (int32_t p = 0; p < a.count; ++p) {
      const cpu::PieceRun run = a.pieces[p];
      const uint8_t* from = base + first * stride + run.quad * Decoder::kBytes;
      if constexpr (Decoder::kRowsInOrder) {
        Math::start(a, p, block);
      } else {
        block.each(p, [&](int r, int v, int64_t, int64_t) { block.sum[r][v] = typename Math::Sum{}; });
      }
      const float* zeros =
          a.w_value_zero != nullptr ? a.w_value_zero + (int64_t{p} * kTiles + first) * kTileRows : nullptr;
      float decoder_zeros[kStep * kTileRows];
      if (!Decoder::kRowsInOrder && zeros != nullptr) {
        for (int t = 0; t < kStep; ++t) Decoder::from_order(zeros + t * kTileRows, decoder_zeros + t * kTileRows);
        zeros = decoder_zeros;
      }
      const uint8_t* ahead = from + kDirectAhead;
      const auto expect = [&]() __attribute__((always_inline)) {
        LOWBIT_UNROLL
        for (int t = 0; t < kStep; ++t) _mm_prefetch(reinterpret_cast<const char*>(ahead + t * stride), _MM_HINT_T0);
      };
      const auto step = [&](auto& to, bool whole, bool has_zero) __attribute__((always_inline)) {
        LOWBIT_UNROLL
        for (int t = 0; t < kStep; ++t) {
          Ints codes[kParts];
          decoder.decode(from + t * stride, whole, codes);
          LOWBIT_UNROLL
          for (int i = 0; i < kParts; ++i) {
            const int v = t * kParts + i;
            Ints w[kOperands];
            has_zero ? numbers(codes[i], zeros + v * kLanes, w) : numbers(codes[i], w);
            LOWBIT_UNROLL
            for (int c = 0; c < kOperands; ++c) Step::add(to, w[c], v, x, c);
          }
        }
        x += 4 * kOperands * kR;
        from += Decoder::kBytes, ahead += Decoder::kBytes;
        asm("" : "+r"(ahead));  // the offsets of the tiles serve both, each would have its own otherwise
      };
      const auto quads_step = [&](auto& to, const auto& of_byte, bool has_zero) __attribute__((always_inline)) {
        Ints codes[kStep][kParts];
        LOWBIT_UNROLL
        for (int t = 0; t < kStep; ++t) {
          of_byte.decode(from + t * stride, true, codes[t]);
        }
        LOWBIT_UNROLL
        for (int c = 0; c < kQuads * kOperands; ++c) {
          const int j = c / kOperands, operand = c % kOperands;
          Ints w[Step::kVectors];
          LOWBIT_UNROLL
          for (int v = 0; v < Step::kVectors; ++v) {
            w[v] = of_byte(codes[v / kParts][v % kParts], j, Math::word(operand));
            if (has_zero) w[v] = as_ints(sub(as_floats(w[v]), load(zeros + v * kLanes)));
          }
          Step::add(to, w, x + 4 * kOperands * kR * j, operand);
        }
        x += 4 * kOperands * kR * kQuads;
        from += Decoder::kBytes * kQuads, ahead += Decoder::kBytes * kQuads;
      };
      // the load of the very last tile may reach past the codes
      const bool guard = at_end && run.quad + run.quads == quads;
      const int32_t last = run.quads - (guard ? 1 : 0);
      const int64_t in_row = quads - run.quad - kDirectAhead / Decoder::kBytes;
      const int32_t turn = in_row < 0 ? 0 : in_row < last ? static_cast<int32_t>(in_row) : last;
      int32_t q = 0;
      const auto steps = [&](auto& to, int32_t stop, bool has_zero) __attribute__((always_inline)) {
        if constexpr (kQuads > 1) {
          for (; q + kQuads <= stop; q += kQuads) {
            expect();
            quads_step(to, quads_of_byte, has_zero);
          }
        }
        if constexpr (kLine > 1) {
          for (; q + kLine <= stop; q += kLine) {
            expect();
            LOWBIT_UNROLL
            for (int i = 0; i < kLine; ++i) step(to, true, has_zero);
          }
        }
        for (; q < stop; ++q) {
          expect();
          step(to, true, has_zero);
        }
      };
      const auto part_until = [&](auto math, int32_t end, int32_t whole, bool has_zero) __attribute__((always_inline)) {
        using M = decltype(math);  // not every Math has parts
        using Partial = typename M::Partial;
        Partial part[kR][Step::kVectors];
        block.each(p, [&](int r, int v, int64_t, int64_t) { part[r][v] = Partial{no_ints()}; });
        steps(part, whole, has_zero);
        for (; q < end; ++q) step(part, false, has_zero);
        block.each(p, [&](int r, int v, int64_t, int64_t) { block.sum[r][v] = M::widen(block.sum[r][v], part[r][v]); });
      };
      if constexpr (Math::kPartials && Math::kValueZeros) {  // parts of the run, wherever the prefetch turns
        while (q < run.quads) {
          if (q >= turn) ahead = from + kDirectAhead + to_next;
          const int32_t end = run.quads - q < a.partial_quads ? run.quads : q + a.partial_quads;
          const int32_t whole = end < last ? end : last;
          zeros != nullptr ? part_until(Math{}, end, whole, true) : part_until(Math{}, end, whole, false);
        }
      } else {
        for (const int32_t stop : {turn, last}) {
          if constexpr (Math::kPartials) {
            while (a.partial_quads >= kLeastPartialQuads && q < stop) {
              const int32_t end = stop - q < a.partial_quads ? stop : q + a.partial_quads;
              part_until(Math{}, end, end, false);
            }
          }
          Math::kValueZeros&& zeros != nullptr ? steps(block.sum, stop, true) : steps(block.sum, stop, false);
          ahead += to_next;
        }
        if (guard) Math::kValueZeros&& zeros != nullptr ? step(block.sum, false, true) : step(block.sum, false, false);
      }
      if constexpr (!Decoder::kRowsInOrder) {
        LOWBIT_UNROLL
        for (int r = 0; r < kR; ++r) {
          LOWBIT_UNROLL
          for (int t = 0; t < kStep; ++t) Decoder::to_order(&block.sum[r][kParts * t], &block.sum[r][kParts * t + 1]);
        }
        Math::add_start(a, p, block);
      }
      block.join(a, p);
    }
  }
}

// The same from codes of any other layout, unpacked a few quads ahead: the codes of all tiles stay in L1.
template <class Math, int kBits, int kTiles, int kR>
void run_unpacked(const BlockArgs& args) {
  const BlockArgs a = args;
  constexpr int kOperands = Math::kOperands, kStep = direct_step(kTiles);
  constexpr int32_t kAtOnce = 32;  // quads: 16 bytes of a row of a plane
  using Step = Block<Math, kTiles, kStep, kR>;
  alignas(64) uint8_t codes[kStep][kAtOnce * 64];
  const typename Math::template Numbers<kBits> numbers(*a.codes->format, *a.tables);
  const int64_t quads = (a.codes->cols + 3) / 4;
  for (int first = 0; first < kTiles; first += kStep) {
    int64_t begin = 0, end = 0;  // the quads in `codes`
    const auto* x = static_cast<const char*>(a.x);
    Step block;
    block.first = first;
    for (int32_t p = 0; p < a.count; ++p) {
      const cpu::PieceRun run = a.pieces[p];
      Math::start(a, p, block);
      const float* zeros =
          a.w_value_zero != nullptr ? a.w_value_zero + (int64_t{p} * kTiles + first) * kTileRows : nullptr;
      constexpr bool kSteps = Math::kPartials && Math::kValueZeros;
      const int64_t run_end = run.quad + run.quads;
      for (int64_t q = run.quad; q < run_end;) {
        const int64_t least = !kSteps ? q + 1 : run_end - q < a.partial_quads ? run_end : q + a.partial_quads;
        if (q < begin || least > end) {
          begin = q / 8 * 8;  // a word of a plane
          end = begin + kAtOnce < quads ? begin + kAtOnce : quads;
          for (int t = 0; t < kStep; ++t) {
            unpack_quads(*a.codes, a.row + 16 * (first + t), begin, static_cast<int32_t>(end - begin), codes[t]);
          }
        }
        const int64_t stop = kSteps ? least : end < run_end ? end : run_end;
        const uint8_t* from = codes[0] + 64 * (q - begin);
        const auto steps = [&](auto& to, bool has_zero) __attribute__((always_inline)) {
          for (; q < stop; ++q) {
            LOWBIT_UNROLL
            for (int v = 0; v < Step::kVectors; ++v) {
              Ints w[kOperands];
              const Ints part = load_ints(from + v / kParts * kAtOnce * 64 + v % kParts * kBytes);
              has_zero ? numbers(part, zeros + v * kLanes, w) : numbers(part, w);
              LOWBIT_UNROLL
              for (int c = 0; c < kOperands; ++c) Step::add(to, w[c], v, x, c);
            }
            x += 4 * kOperands * kR;
            from += 64;
          }
        };
        if constexpr (kSteps) {
          typename Math::Partial part[kR][Step::kVectors];
          block.each(p, [&](int r, int v, int64_t, int64_t) { part[r][v] = typename Math::Partial{no_ints()}; });
          zeros != nullptr ? steps(part, true) : steps(part, false);
          block.each(
              p, [&](int r, int v, int64_t, int64_t) { block.sum[r][v] = Math::widen(block.sum[r][v], part[r][v]); });
        } else {
          Math::kValueZeros&& zeros != nullptr ? steps(block.sum, true) : steps(block.sum, false);
        }
      }
      block.join(a, p);
    }
  }
}

template <class Math, int kBits>
void fill_panel(const FillArgs& a) {
  constexpr int kOperands = Math::kOperands;
  const typename Math::template Numbers<kBits> numbers(*a.codes->format, *a.tables);
  auto* out = static_cast<char*>(a.out);
  Ints sum[kParts];
  for (auto& s : sum) s = no_ints();
  const bool has_zero = a.zero != nullptr;
  const auto put = [&](int32_t q, const Ints(&codes)[kParts]) {
    uint32_t ones = 0x01010101u;  // but for the columns outside the piece
    if (q == 0) ones &= ~0u << (8 * a.head);
    if (q + 1 == a.quads) ones &= ~0u >> (8 * a.tail);
    LOWBIT_UNROLL
    for (int i = 0; i < kParts; ++i) {
      Ints operands[kOperands];
      has_zero ? numbers(codes[i], a.zero + i * kLanes, operands) : numbers(codes[i], operands);
      LOWBIT_UNROLL
      for (int c = 0; c < kOperands; ++c) store_ints(out + q * a.out_stride + 64 * c + i * kBytes, operands[c]);
      if (a.sum != nullptr) sum[i] = Math::count(sum[i], operands, ones);
    }
  };
  Ints tile[kParts];
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
      decoder(p, true, tile);
      put(q, tile);
    }
    for (; q < a.quads; ++q, p += Decoder::kBytes) {
      decoder(p, false, tile);
      put(q, tile);
    }
  } else {
    constexpr int32_t kAtOnce = 128;  // quads
    alignas(64) uint8_t codes[kAtOnce * 64];
    for (int32_t q = 0; q < a.quads; q += kAtOnce) {
      const int32_t count = a.quads - q < kAtOnce ? a.quads - q : kAtOnce;
      unpack_quads(*a.codes, a.row, a.quad + q, count, codes);
      for (int32_t i = 0; i < count; ++i) {
        for (int part = 0; part < kParts; ++part) tile[part] = load_ints(codes + 64 * i + part * kBytes);
        put(q + i, tile);
      }
    }
  }
  if (a.sum != nullptr) {
    for (int i = 0; i < kParts; ++i) store_ints(a.sum + i * kLanes, sum[i]);
  }
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
  if (a.codes->layout != Layout::kTile16) return run_unpacked<Math, kBits, cpu::kDirectTiles, kR>(a);
  Math::template with_decoder<Math, kBits>(a, [&](const auto& decoder, const auto& numbers) {
    run_direct<Math, kBits, cpu::kDirectTiles, kR>(a, decoder, numbers);
  });
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
  return {quads, 4 * Math::kOperands, 64 * Math::kOperands, cpu::kRows, 1,       1,
          0,     panel<Math>,         direct<Math>,         fill<Math>, nullptr, nullptr};
}

// Codes by the decoder of the width, whatever they stand for.
struct AnyCodes {
  template <int kBits>
  static constexpr int kQuadsOfByte = 1;
  template <int kBits>
  struct Quads {
    explicit Quads(const cpu::CodeTables&) {}
  };
  template <class Math, int kBits, class F>
  static LOWBIT_INLINE void with_decoder(const BlockArgs& a, const F& f) {
    f(TileDecoder<kBits>(), typename Math::template Numbers<kBits>(*a.codes->format, *a.tables));
  }
};

// Sums in fp32.
struct FloatSums : AnyCodes {
  using Sum = Floats;
  static constexpr bool kPartials = false;
  template <class B>
  static LOWBIT_INLINE void start(const BlockArgs&, int32_t p, B& b) {
    b.each(p, [&](int r, int v, int64_t, int64_t) { b.sum[r][v] = no_floats(); });
  }
  template <class B>
  static LOWBIT_INLINE void add_start(const BlockArgs&, int32_t, B&) {}
  static LOWBIT_INLINE Sum resume(Sum sum, const char* carry) {
    return add(sum, load(reinterpret_cast<const float*>(carry)));
  }
  static LOWBIT_INLINE void save(Sum sum, char* carry) { store(reinterpret_cast<float*>(carry), sum); }
  static LOWBIT_INLINE Floats to_float(Sum sum) { return sum; }
  template <int kOperands>
  static LOWBIT_INLINE Ints count(Ints sum, const Ints (&)[kOperands], uint32_t) {
    return sum;
  }
};

// Sums of int8 products in int32.
struct IntegerSums : AnyCodes {
  using Sum = Ints;
  // What stands for the weights' offset and the zero points.
  template <class B>
  static LOWBIT_INLINE void start(const BlockArgs& a, int32_t p, B& b) {
    if (a.x_start != nullptr) {
      b.each(p, [&](int r, int v, int64_t, int64_t xi) { b.sum[r][v] = ints(a.x_start[xi]); });
    } else if (a.w_zero != nullptr) {
      b.each(p, [&](int r, int v, int64_t wi, int64_t xi) {
        b.sum[r][v] = mul(load_ints(a.w_zero + wi), ints(a.x_sum[xi]));
      });
    } else {
      b.each(p, [&](int r, int v, int64_t, int64_t) { b.sum[r][v] = no_ints(); });
    }
    if (a.w_sum != nullptr) {
      b.each(p, [&](int r, int v, int64_t wi, int64_t xi) {
        b.sum[r][v] = add(b.sum[r][v], mul(load_ints(a.w_sum + wi), ints(a.x_zero[xi])));
      });
    }
  }
  // The same after the products, for sums that began at 0.
  template <class B>
  static LOWBIT_INLINE void add_start(const BlockArgs& a, int32_t p, B& b) {
    B from = b;
    start(a, p, from);
    b.each(p, [&](int r, int v, int64_t, int64_t) { b.sum[r][v] = add(b.sum[r][v], from.sum[r][v]); });
  }
  static LOWBIT_INLINE Sum resume(Sum sum, const char* carry) { return add(sum, load_ints(carry)); }
  static LOWBIT_INLINE void save(Sum sum, char* carry) { store_ints(carry, sum); }
  static LOWBIT_INLINE Floats to_float(Sum sum) { return to_floats(sum); }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
