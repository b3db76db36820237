// The int8-dot engine: weights as unsigned bytes u = value + offset, activations as signed bytes, vpdpbusd into int32.
// Any width of weights becomes bytes by one permute, one bit-matrix transpose and one table permute (decode.h).
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 64 vpdpbusd over 2 a cycle (Zen 5,
// Sapphire Rapids; 1 on Zen 4). A decoded tile serves all rows of a chunk, so that decoding, 5 instructions for 64
// weights, weighs 5 / rows; a group of g columns adds 3 instructions to its g / 4 dots.
#include "cpu/avx512/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

using cpu::BlockArgs;
using cpu::FillArgs;

template <int kTiles, int kR>
struct Int8Kernel {
  using Sums = __m512i[kR][kTiles];

  // What stands for the weights' offset and the zero points.
  static inline __attribute__((always_inline)) void start(const BlockArgs& a, int32_t p, Sums& sum) {
    const int64_t wi = int64_t{p} * kTiles * 16, xi = int64_t{p} * cpu::kRows;
    LOWBIT_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      LOWBIT_UNROLL
      for (int r = 0; r < kR; ++r) {
        sum[r][t] = a.x_start != nullptr  ? _mm512_set1_epi32(a.x_start[xi + r])
                    : a.w_zero != nullptr ? _mm512_mullo_epi32(_mm512_loadu_si512(a.w_zero + wi + 16 * t),
                                                               _mm512_set1_epi32(a.x_sum[xi + r]))
                                          : _mm512_setzero_si512();
        if (a.w_sum != nullptr) {
          const __m512i w_sum = _mm512_loadu_si512(a.w_sum + wi + 16 * t);
          sum[r][t] = _mm512_add_epi32(sum[r][t], _mm512_mullo_epi32(w_sum, _mm512_set1_epi32(a.x_zero[xi + r])));
        }
      }
    }
  }

  static inline __attribute__((always_inline)) void join(const BlockArgs& a, int32_t p, Sums& sum) {
    const cpu::PieceRun run = a.pieces[p];
    auto* carry = static_cast<int32_t*>(a.carry);
    LOWBIT_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const __m512 scale = run.last ? _mm512_loadu_ps(a.w_scale + (int64_t{p} * kTiles + t) * 16) : _mm512_setzero_ps();
      LOWBIT_UNROLL
      for (int r = 0; r < kR; ++r) {
        int32_t* c = carry + (r * kTiles + t) * 16;
        if (!run.first) sum[r][t] = _mm512_add_epi32(sum[r][t], _mm512_load_si512(c));
        if (run.last) {
          join_one<kTiles>(a, p, r, t, _mm512_cvtepi32_ps(sum[r][t]), scale);
        } else {
          _mm512_store_si512(c, sum[r][t]);
        }
      }
    }
  }

  static void run(const BlockArgs& a) {
    const auto* x = static_cast<const char*>(a.x);
    const auto* w = static_cast<const char*>(a.w);
    for (int32_t p = 0; p < a.count; ++p) {
      Sums sum;
      start(a, p, sum);
      for (int32_t q = a.pieces[p].quads; q > 0; --q) {
        __m512i v[kTiles];
        LOWBIT_UNROLL
        for (int t = 0; t < kTiles; ++t) v[t] = _mm512_load_si512(w + 64 * t);
        LOWBIT_UNROLL
        for (int r = 0; r < kR; ++r) {
          int32_t four;
          std::memcpy(&four, x + 4 * r, 4);
          const __m512i b = _mm512_set1_epi32(four);
          LOWBIT_UNROLL
          for (int t = 0; t < kTiles; ++t) sum[r][t] = _mm512_dpbusd_epi32(sum[r][t], v[t], b);
        }
        x += 4 * kR;
        w += 64 * kTiles;
      }
      join(a, p, sum);
    }
  }
};

template <int kBits>
struct Int8Fill {
  static void run(const FillArgs& a) {
    const ByteTable<kBits> table(a.tables->u8);
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(a.tables->u8[0]));
    const bool flipped = kBits == 8 && a.codes->format->is_int();  // then u = code ^ flip
    auto* out = static_cast<char*>(a.out);
    __m512i sum = _mm512_setzero_si512();
    for_quads<kBits>(a, [&](int32_t q, __m512i codes) {
      const __m512i u = flipped ? _mm512_xor_si512(codes, flip) : table(codes);
      _mm512_store_si512(out + q * a.out_stride, u);
      if (a.sum != nullptr) {
        uint32_t ones = 0x01010101u;
        if (q == 0) ones &= ~0u << (8 * a.head);
        if (q + 1 == a.quads) ones &= ~0u >> (8 * a.tail);
        sum = _mm512_dpbusd_epi32(sum, u, _mm512_set1_epi32(static_cast<int32_t>(ones)));
      }
    });
    if (a.sum != nullptr) _mm512_storeu_si512(a.sum, sum);
  }
};

}  // namespace

const cpu::Engine kInt8Engine = {128, 4, 64, run_kernel<Int8Kernel>, fill_by_bits<Int8Fill>};

}  // namespace lowbit::avx512
