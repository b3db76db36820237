// The Walsh-Hadamard transform. A block of n = m * 2^k is m rows of 2^k: butterflies along the rows, H_m across them.
//
// Floors: copying x to out, and n k additions (two vectors of them a cycle) for the butterflies; H_m adds about
// n (m / 4 + 4). Passes over a block, all loads and stores of whole vectors; a set is 16 registers of neighbours, 256
// with AVX-512 and 128 with AVX2, and s the log2 of that:
//
//   lanes  s stages on a set: those within the lanes by a shuffle and an fma(x, +-1, shuffled x), the others between
//          registers. Blocks of n <= 2^s are this pass alone, several to a set.
//   cross  up to 4 stages (16 rows in 16 registers) at a stride of 2^s, 2^(s + 4), ...
//   base   H_m over columns of one or two vectors: the 16 signed sums of every 4 rows stand in a table, an output adds
//          one of them for every 4 inputs (the method of four Russians); for m = 12, 20, 28 the matrix is a constant
//          and the sums stay in registers
//
//   k <= s:      lanes                                  k <= s + 4:  cross at 2^s, lanes
//   above:       cross over up to 16 parts, then each part so
//
// Rows shorter than a vector (m > 1) go kLanes blocks at a time, transposed into a panel [n][kLanes]. Data whose
// columns are not neighbours, or whose dtype changes, is staged in fp32, kLanes rows at a time where the rows are
// neighbours. A product by +-1 is exact, so the fma rounds as an addition does.
#include "cpu/simd/hadamard.h"

#include <algorithm>
#include <atomic>

#include "cpu/dispatch.h"
#include "cpu/simd/values.h"
#include "ref/galois.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

constexpr int kLanesLog2 = kLanes == 16 ? 4 : 3;
constexpr int kSetLog2 = kLanesLog2 + 4;
constexpr int kSet = 1 << kSetLog2;  // floats in 16 registers

// ---- conversion

template <DType T>
struct Raw {
  using type = uint16_t;
};
template <>
struct Raw<DType::kF32> {
  using type = float;
};

template <DType T>
LOWBIT_INLINE Floats load(const void* data, int64_t i) {
  const auto* p = static_cast<const typename Raw<T>::type*>(data) + i;
  if constexpr (T == DType::kF32) return load(p);
  if constexpr (T == DType::kF16) return from_f16(load_halves(p));
  if constexpr (T == DType::kBF16) return from_bf16(load_halves(p));
}

// The first `count` lanes, zeros after them.
template <DType T>
LOWBIT_INLINE Floats load(const void* data, int64_t i, int64_t count) {
  const auto* p = static_cast<const typename Raw<T>::type*>(data) + i;
  if constexpr (T == DType::kF32) return load(p, count);
  if constexpr (T == DType::kF16) return from_f16(load_halves(p, count));
  if constexpr (T == DType::kBF16) return from_bf16(load_halves(p, count));
}

template <DType T>
LOWBIT_INLINE Halves to_half(Floats v) {
  if constexpr (T == DType::kF16) return to_f16(v);
  return to_bf16(v);
}

template <DType T>
LOWBIT_INLINE void store(void* data, int64_t i, Floats v) {
  auto* p = static_cast<typename Raw<T>::type*>(data) + i;
  if constexpr (T == DType::kF32) {
    store(p, v);
  } else {
    store_halves(p, to_half<T>(v));
  }
}

template <DType T>
LOWBIT_INLINE void store(void* data, int64_t i, Floats v, int64_t count) {
  auto* p = static_cast<typename Raw<T>::type*>(data) + i;
  if constexpr (T == DType::kF32) {
    store(p, count, v);
  } else {
    store_halves(p, count, to_half<T>(v));
  }
}

// The whole of a register set, scaled.
template <DType T>
LOWBIT_INLINE void store_set(void* data, int64_t i, const Floats (&v)[16], Floats factor) {
#ifdef __AVX512BF16__
  if constexpr (T == DType::kBF16) {
    // vcvtneps2bf16 is quick, but flushes subnormals: not taken where there is one
    Floats scaled[16];
    constexpr int kSubnormal = 0x20;
    unsigned subnormal = 0;
    LOWBIT_UNROLL
    for (int r = 0; r < 16; ++r) {
      scaled[r] = mul(v[r], factor);
      subnormal |= _mm512_fpclass_ps_mask(scaled[r], kSubnormal);
    }
    auto* p = static_cast<uint16_t*>(data) + i;
    if (__builtin_expect(subnormal == 0, 1)) {
      LOWBIT_UNROLL
      for (int r = 0; r < 16; r += 2) {
        store_ints(p + r * kLanes, reinterpret_cast<Ints>(_mm512_cvtne2ps_pbh(scaled[r + 1], scaled[r])));
      }
      return;
    }
    for (int r = 0; r < 16; ++r) store<T>(data, i + r * kLanes, scaled[r]);
    return;
  }
#endif
  LOWBIT_UNROLL
  for (int r = 0; r < 16; ++r) store<T>(data, i + r * kLanes, mul(v[r], factor));
}

// v * sign, sign of +-1.
LOWBIT_INLINE Floats flip(Floats v, Floats sign) {
  return as_floats(bit_xor(as_ints(v), bit_and(as_ints(sign), ints(INT32_MIN))));
}

// ---- butterflies

// One stage between registers `h` apart.
template <int kCount>
LOWBIT_INLINE void stage(Floats (&v)[kCount], int h) {
  LOWBIT_UNROLL
  for (int i = 0; i < kCount; ++i) {
    if (i & h) continue;
    const Floats a = v[i], b = v[i + h];
    v[i] = add(a, b);
    v[i + h] = sub(a, b);
  }
}

template <int kCount>
LOWBIT_INLINE void butterflies(Floats (&v)[kCount]) {
  LOWBIT_UNROLL
  for (int h = 1; h < kCount; h *= 2) stage(v, h);
}

template <int kDistance>
LOWBIT_INLINE void lane_stage(Floats (&v)[16]) {
  const Floats sign = select(lanes_with(kDistance), floats(-1.0f), floats(1.0f));
  LOWBIT_UNROLL
  for (auto& x : v) x = fma(x, sign, exchange<kDistance>(x));
}

// The first `log2` <= kSetLog2 stages on 16 registers of neighbours.
LOWBIT_INLINE void lane_stages(Floats (&v)[16], int log2) {
  if (log2 > 0) lane_stage<1>(v);
  if (log2 > 1) lane_stage<2>(v);
  if (log2 > 2) lane_stage<4>(v);
  if constexpr (kLanesLog2 > 3) {
    if (log2 > 3) lane_stage<8>(v);
  }
  if (log2 > kLanesLog2) stage(v, 1);
  if (log2 > kLanesLog2 + 1) stage(v, 2);
  if (log2 > kLanesLog2 + 2) stage(v, 4);
  if (log2 > kLanesLog2 + 3) stage(v, 8);
}

// Signs that stand beside a run of floats: element i has data[i / kSet * step + i % kSet].
struct Signs {
  const float* data = nullptr;
  int64_t step = 0;  // kSet, or 0 where kSet of them repeat
};

LOWBIT_INLINE void flip_set(Floats (&v)[16], const Signs& signs, int64_t i, int64_t count) {
  const float* s = signs.data + i / kSet * signs.step;
  LOWBIT_UNROLL
  for (int r = 0; r < 16; ++r) v[r] = flip(v[r], load<DType::kF32>(s, r * kLanes, count - r * kLanes));
}

// What the cross pass of the next block reads, in 16 streams that no hardware prefetcher follows. Asked for meanwhile,
// a set at a time; past the end of x it does nothing.
struct Ahead {
  const void* data = nullptr;
  int64_t set_bytes = 0;
};

LOWBIT_INLINE void prefetch_set(const Ahead& ahead, int64_t i) {
  if (!ahead.data) return;
  const char* p = static_cast<const char*>(ahead.data) + i / kSet * ahead.set_bytes;
  for (int64_t b = 0; b < ahead.set_bytes; b += 64) _mm_prefetch(p + b, _MM_HINT_T0);
}

// The lanes pass over `count` neighbours, any multiple of 2^log2, log2 <= kSetLog2.
template <DType In, DType Out>
void lanes(const void* x, void* out, int64_t count, int log2, Signs sign_in, Signs sign_out, float scale,
           Ahead ahead = {}) {
  const Floats factor = floats(scale);
  int64_t i = 0;
  Floats v[16];
  for (; i + kSet <= count; i += kSet) {
    LOWBIT_UNROLL
    for (int r = 0; r < 16; ++r) v[r] = load<In>(x, i + r * kLanes);
    if (sign_in.data) flip_set(v, sign_in, i, kSet);
    prefetch_set(ahead, i);
    lane_stages(v, log2);
    if (sign_out.data) flip_set(v, sign_out, i, kSet);
    store_set<Out>(out, i, v, factor);
  }
  if (i == count) return;
  const int64_t rest = count - i;  // blocks do not mix, so the zeros of the missing ones do no harm
  LOWBIT_UNROLL
  for (int r = 0; r < 16; ++r) v[r] = load<In>(x, i + r * kLanes, rest - r * kLanes);
  if (sign_in.data) flip_set(v, sign_in, i, rest);
  lane_stages(v, log2);
  if (sign_out.data) flip_set(v, sign_out, i, rest);
  LOWBIT_UNROLL
  for (int r = 0; r < 16; ++r) {
    store<Out>(out, i + r * kLanes, mul(v[r], factor), rest - r * kLanes);
  }
}

// kRows rows `stride` apart, butterflied over columns 0..stride.
template <DType In, int kRows>
void cross_rows(const void* x, float* out, int64_t stride, const float* sign) {
  for (int64_t c = 0; c < stride; c += kLanes) {
    Floats v[kRows];
    LOWBIT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      v[r] = load<In>(x, r * stride + c);
      if (sign) v[r] = flip(v[r], load(sign + r * stride + c));
    }
    butterflies(v);
    LOWBIT_UNROLL
    for (int r = 0; r < kRows; ++r) store(out + r * stride + c, v[r]);
  }
}

// The cross pass: 2^log2 rows, 0 <= log2 <= 4.
template <DType In>
void cross(const void* x, float* out, int64_t stride, int log2, const float* sign) {
  switch (log2) {
    case 0: return cross_rows<In, 1>(x, out, stride, sign);
    case 1: return cross_rows<In, 2>(x, out, stride, sign);
    case 2: return cross_rows<In, 4>(x, out, stride, sign);
    case 3: return cross_rows<In, 8>(x, out, stride, sign);
    default: return cross_rows<In, 16>(x, out, stride, sign);
  }
}

// The stages below kLeafLog2 + 4 of sums, in place but for the last pass.
template <DType Out>
void row_of_sums(float* sums, void* out, int log2, const float* sign_out, float scale) {
  const int64_t n = int64_t{1} << log2;
  if (log2 > kSetLog2 + 4) {
    const int64_t part = n / 16;
    cross<DType::kF32>(sums, sums, part, 4, nullptr);
    for (int64_t i = 0; i < n; i += part) {
      void* to = static_cast<typename Raw<Out>::type*>(out) + i;
      row_of_sums<Out>(sums + i, to, log2 - 4, sign_out ? sign_out + i : nullptr, scale);
    }
    return;
  }
  cross<DType::kF32>(sums, sums, kSet, log2 - kSetLog2, nullptr);
  lanes<DType::kF32, Out>(sums, out, n, kSetLog2, {}, {sign_out, kSet}, scale);
}

// H_{2^log2} of one row. `sums` has room for the row where log2 > kSetLog2; it may be x or out.
template <DType In, DType Out>
void row(const void* x, void* out, float* sums, int log2, const float* sign_in, const float* sign_out, float scale) {
  constexpr int kLeafLog2 = kSetLog2 + 4;  // two passes without leaving the first cache
  const int64_t n = int64_t{1} << log2;
  if (log2 <= kSetLog2) return lanes<In, Out>(x, out, n, log2, {sign_in, kSet}, {sign_out, kSet}, scale);
  if (log2 <= kLeafLog2) {
    using T = typename Raw<In>::type;
    cross<In>(x, sums, kSet, log2 - kSetLog2, sign_in);
    const Ahead next{static_cast<const T*>(x) + n, kSet * sizeof(T)};
    return lanes<DType::kF32, Out>(sums, out, n, kSetLog2, {}, {sign_out, kSet}, scale, next);
  }
  const int rest = log2 - kLeafLog2 <= 4 ? kLeafLog2 : log2 - 4;
  const int64_t part = int64_t{1} << rest;
  cross<In>(x, sums, part, log2 - rest, sign_in);
  for (int64_t i = 0; i < n; i += part) {
    void* to = static_cast<typename Raw<Out>::type*>(out) + i;
    row_of_sums<Out>(sums + i, to, rest, sign_out ? sign_out + i : nullptr, scale);
  }
}

// ---- H_m

// Tables of so many groups of 4 rows stand at once: up to 32 KiB.
constexpr int kTableGroups = 16;
constexpr int64_t kTable = 16 * kLanes;  // floats of one group's 16 sums over a vector of columns

// sums[p] = sum over j of (bit j of p set ? -v[j] : v[j]) for p = 0..7; sums[15 - p] is its negative.
LOWBIT_INLINE void signed_sums(Floats a, Floats b, Floats c, Floats d, Floats (&sums)[8]) {
  const Floats ab = add(a, b), a_b = sub(a, b);
  const Floats cd = add(c, d), d_c = sub(d, c);
  sums[0] = add(cd, ab);
  sums[1] = sub(cd, a_b);
  sums[2] = add(cd, a_b);
  sums[3] = sub(cd, ab);
  sums[4] = add(d_c, ab);
  sums[5] = sub(d_c, a_b);
  sums[6] = add(d_c, a_b);
  sums[7] = sub(d_c, ab);
}

struct Base {
  int m = 1;
  bool transpose = false;
  const uint8_t* signs = nullptr;  // [m][m / 4]
};

int64_t base_workspace(int m, int columns) { return (m + kTableGroups * 16) * columns; }

// out = scale * sign (H_m (x) I) x over kColumns columns: m rows of x and out `stride` apart. Every row of x is read
// before a row of out is written, so they may be the same.
template <DType Out, int kColumns>
void base_columns(const Base& base, const float* x, void* out, int64_t stride, const float* sign, float scale,
                  float* workspace) {
  constexpr int kVectors = kColumns / kLanes;
  float* tables = workspace;
  float* partial = workspace + kTableGroups * kTable * kVectors;  // [m][kColumns]
  const int groups = base.m / 4;
  const int parts = (groups + kTableGroups - 1) / kTableGroups;
  const Floats factor = floats(scale);
  for (int part = 0; part < parts; ++part) {
    const int first = groups * part / parts, last = groups * (part + 1) / parts;
    for (int g = first; g < last; ++g) {
      const float* rows = x + 4 * g * stride;
      float* table = tables + (g - first) * kTable * kVectors;
      for (int c = 0; c < kVectors; ++c) {
        const auto input = [&](int r) { return load(rows + r * stride + c * kLanes); };
        Floats sums[8];
        signed_sums(input(0), input(1), input(2), input(3), sums);
        LOWBIT_UNROLL
        for (int p = 0; p < 8; ++p) {
          store(table + c * kTable + p * kLanes, sums[p]);
          store(table + c * kTable + (15 - p) * kLanes, as_floats(bit_xor(as_ints(sums[p]), ints(INT32_MIN))));
        }
      }
    }
    for (int i = 0; i < base.m; i += 4) {
      Floats sum[4][kVectors];
      LOWBIT_UNROLL
      for (int r = 0; r < 4; ++r) {
        LOWBIT_UNROLL
        for (int c = 0; c < kVectors; ++c) {
          sum[r][c] = part ? load(partial + (i + r) * kColumns + c * kLanes) : no_floats();
        }
      }
      const uint8_t* signs = base.signs + static_cast<int64_t>(i) * groups;
      const float* table = tables;
      for (int g = first; g < last; ++g, table += kTable * kVectors) {
        LOWBIT_UNROLL
        for (int r = 0; r < 4; ++r) {
          const float* entry = table + signs[r * groups + g] * kLanes;
          LOWBIT_UNROLL
          for (int c = 0; c < kVectors; ++c) {
            sum[r][c] = add(sum[r][c], load(entry + c * kTable));
          }
        }
      }
      LOWBIT_UNROLL
      for (int r = 0; r < 4; ++r) {
        LOWBIT_UNROLL
        for (int c = 0; c < kVectors; ++c) {
          if (part + 1 < parts) {
            store(partial + (i + r) * kColumns + c * kLanes, sum[r][c]);
            continue;
          }
          const int64_t at = (i + r) * stride + c * kLanes;
          if (sign) sum[r][c] = flip(sum[r][c], load(sign + at));
          store<Out>(out, at, mul(sum[r][c], factor));
        }
      }
    }
  }
}

// The sign patterns of a matrix that a kernel has as a constant.
template <int m>
struct Patterns {
  uint8_t of[m][m / 4] = {};
};

template <int m, bool kTranspose>
constexpr Patterns<m> paley1_patterns() {
  Patterns<m> p;
  const Field field(prime_power(m - 1));
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < m; ++j) {
      if ((kTranspose ? paley1(field, j, i) : paley1(field, i, j)) < 0) p.of[i][j / 4] |= 1 << (j % 4);
    }
  }
  return p;
}

// base_columns for the small orders of Paley's first kind, the sums in registers instead of a table.
template <DType Out, int m, bool kTranspose>
void base_constant(const float* x, void* out, int64_t stride, const float* sign, float scale) {
  static constexpr Patterns<m> kPatterns = paley1_patterns<m, kTranspose>();
  const Floats factor = floats(scale), minus_factor = floats(-scale);
  for (int64_t c = 0; c < stride; c += kLanes) {
    Floats sums[m / 4][8];
    LOWBIT_UNROLL
    for (int g = 0; g < m / 4; ++g) {
      const auto input = [&](int r) { return load(x + (4 * g + r) * stride + c); };
      signed_sums(input(0), input(1), input(2), input(3), sums[g]);
    }
#pragma GCC unroll 32
    for (int i = 0; i < m; ++i) {
      const int first = kPatterns.of[i][0];
      Floats sum = sums[0][first < 8 ? first : 15 - first];  // the row times the sign of its first group
      LOWBIT_UNROLL
      for (int g = 1; g < m / 4; ++g) {
        const int p = kPatterns.of[i][g];
        const Floats term = sums[g][p < 8 ? p : 15 - p];
        sum = (p < 8) == (first < 8) ? add(sum, term) : sub(sum, term);
      }
      if (sign) sum = flip(sum, load(sign + i * stride + c));
      store<Out>(out, i * stride + c, mul(sum, first < 8 ? factor : minus_factor));
    }
  }
}

// The base pass over m rows of `stride` columns, a multiple of kLanes.
template <DType Out>
void multiply_base(const Base& base, const float* x, void* out, int64_t stride, const float* sign, float scale,
                   float* workspace) {
#define CONSTANT(order)                                                                  \
  case order:                                                                            \
    return base.transpose ? base_constant<Out, order, true>(x, out, stride, sign, scale) \
                          : base_constant<Out, order, false>(x, out, stride, sign, scale);
  switch (base.m) {
    CONSTANT(12)
    CONSTANT(20)
    CONSTANT(28)
    default: break;
  }
#undef CONSTANT
  using T = typename Raw<Out>::type;
  int64_t c = 0;
  for (; c + 2 * kLanes <= stride; c += 2 * kLanes) {
    base_columns<Out, 2 * kLanes>(base, x + c, static_cast<T*>(out) + c, stride, sign ? sign + c : nullptr, scale,
                                  workspace);
  }
  for (; c < stride; c += kLanes) {
    base_columns<Out, kLanes>(base, x + c, static_cast<T*>(out) + c, stride, sign ? sign + c : nullptr, scale,
                              workspace);
  }
}

// ---- blocks

// What a call does, the same for all its blocks.
struct Plan {
  Base base;
  int log2 = 0;
  int64_t n = 1;
  bool transpose = false;
  float scale = 1.0f;

  bool in_panels() const { return base.m > 1 && log2 < kLanesLog2; }
  bool in_runs() const { return base.m == 1 && log2 <= kSetLog2; }
};

// Up to kLanes pieces of rows, evenly spaced: one block each, or, for blocks of n <= kSet = 2^log2, a run of them.
struct Pieces {
  const char* x = nullptr;
  char* out = nullptr;
  Signs sign;
  int64_t x_step = 0, out_step = 0;  // bytes
  int64_t sign_step = 0;             // floats
  int64_t length = 0;
  int count = 0;

  const float* sign_of(int i) const { return sign.data ? sign.data + i * sign_step : nullptr; }
};

LOWBIT_INLINE void transpose(Floats (&v)[kLanes]) {
  Ints t[kLanes];
  LOWBIT_UNROLL
  for (int i = 0; i < kLanes; ++i) t[i] = as_ints(v[i]);
  transpose(t);
  LOWBIT_UNROLL
  for (int i = 0; i < kLanes; ++i) v[i] = as_floats(t[i]);
}

// kLanes blocks with m > 1 and rows below a vector as the lanes of a panel [n][kLanes]. Missing blocks repeat the last
// one.
template <DType In, DType Out>
void panel(const Plan& plan, const Pieces& pieces, float* workspace) {
  float* rows = workspace;
  float* base_space = workspace + plan.n * kLanes;
  Floats v[kLanes];
  for (int64_t j = 0; j < plan.n; j += kLanes) {
    const int64_t count = plan.n - j;
    for (int r = 0; r < kLanes; ++r) {
      const int i = std::min(r, pieces.count - 1);
      v[r] = load<In>(pieces.x + i * pieces.x_step, j, count);
      if (pieces.sign.data && !plan.transpose) v[r] = flip(v[r], load<DType::kF32>(pieces.sign_of(i), j, count));
    }
    transpose(v);
    for (int r = 0; r < kLanes && j + r < plan.n; ++r) store(rows + (j + r) * kLanes, v[r]);
  }
  for (int64_t j = 0; j < plan.n; j += int64_t{1} << plan.log2) {
    cross<DType::kF32>(rows + j * kLanes, rows + j * kLanes, kLanes, plan.log2, nullptr);
  }
  multiply_base<DType::kF32>(plan.base, rows, rows, kLanes << plan.log2, nullptr, plan.scale, base_space);
  for (int64_t j = 0; j < plan.n; j += kLanes) {
    const int64_t count = plan.n - j;
    for (int r = 0; r < kLanes; ++r) {
      v[r] = j + r < plan.n ? load(rows + (j + r) * kLanes) : no_floats();
    }
    transpose(v);
    for (int r = 0; r < pieces.count; ++r) {
      if (pieces.sign.data && plan.transpose) v[r] = flip(v[r], load<DType::kF32>(pieces.sign_of(r), j, count));
      store<Out>(pieces.out + r * pieces.out_step, j, v[r], count);
    }
  }
}

// One piece, not of the panel's kind. Sums before they are rounded stand in `out` itself where that is fp32, else in
// the workspace.
template <DType In, DType Out>
LOWBIT_INLINE void transform(const Plan& plan, const void* x, void* out, int64_t length, Signs sign, float* workspace) {
  const Signs none, sign_in = plan.transpose ? none : sign, sign_out = plan.transpose ? sign : none;
  if (plan.in_runs()) {
    return lanes<In, Out>(x, out, length, plan.log2, sign_in, sign_out, plan.scale);
  }
  float* sums = Out == DType::kF32 ? static_cast<float*>(out) : workspace;
  if (plan.base.m == 1) return row<In, Out>(x, out, sums, plan.log2, sign_in.data, sign_out.data, plan.scale);
  const int64_t cols = int64_t{1} << plan.log2;
  if (plan.log2 <= kSetLog2) {
    lanes<In, DType::kF32>(x, sums, plan.n, plan.log2, sign_in, none, 1.0f);
  } else {
    for (int64_t i = 0; i < plan.n; i += cols) {
      const void* from = static_cast<const typename Raw<In>::type*>(x) + i;
      row<In, DType::kF32>(from, sums + i, sums + i, plan.log2, sign_in.data ? sign_in.data + i : nullptr, nullptr,
                           1.0f);
    }
  }
  float* base_space = Out == DType::kF32 ? workspace : workspace + plan.n;
  multiply_base<Out>(plan.base, sums, out, cols, sign_out.data, plan.scale, base_space);
}

template <DType In, DType Out>
void transform_pieces(const Plan& plan, const Pieces& pieces, float* workspace) {
  if (plan.in_panels()) return panel<In, Out>(plan, pieces, workspace);
  for (int i = 0; i < pieces.count; ++i) {
    transform<In, Out>(plan, pieces.x + i * pieces.x_step, pieces.out + i * pieces.out_step, pieces.length,
                       {pieces.sign_of(i), pieces.sign.step}, workspace);
  }
}

using Transform = void (*)(const Plan&, const Pieces&, float*);

// nullptr: through fp32 copies.
Transform transform_of(const Matrix& x, const Matrix& out) {
  if (x.dtype != out.dtype || x.col_stride != 1 || out.col_stride != 1) return nullptr;
  switch (x.dtype) {
    case DType::kF32: return transform_pieces<DType::kF32, DType::kF32>;
    case DType::kBF16: return transform_pieces<DType::kBF16, DType::kBF16>;
    default: return transform_pieces<DType::kF16, DType::kF16>;
  }
}

// ---- strides

// Copies `rows` <= kLanes rows of `cols` elements to fp32 rows `pitch` apart.
template <DType T>
void gather(const void* data, int64_t row_stride, int64_t col_stride, int rows, int64_t cols, float* out,
            int64_t pitch) {
  const auto* p = static_cast<const typename Raw<T>::type*>(data);
  for (int64_t j = 0; row_stride == 1 && j < cols; j += kLanes) {  // neighbours are rows: kLanes x kLanes at a time
    Floats v[kLanes];
    for (int c = 0; c < kLanes; ++c) {
      v[c] = j + c < cols ? load<T>(p, (j + c) * col_stride, rows) : no_floats();
    }
    transpose(v);
    for (int r = 0; r < rows; ++r) store<DType::kF32>(out, r * pitch + j, v[r], cols - j);
  }
  typename Raw<T>::type part[kLanes] = {};
  for (int r = 0; row_stride != 1 && r < rows; ++r) {
    for (int64_t j = 0; j < cols; j += kLanes) {
      const int64_t width = std::min<int64_t>(kLanes, cols - j);
      for (int64_t c = 0; c < width; ++c) part[c] = p[r * row_stride + (j + c) * col_stride];
      store<DType::kF32>(out, r * pitch + j, load<T>(part, 0), width);
    }
  }
}

// The inverse of gather.
template <DType T>
void scatter(const float* in, int64_t pitch, int rows, int64_t cols, void* data, int64_t row_stride,
             int64_t col_stride) {
  auto* p = static_cast<typename Raw<T>::type*>(data);
  for (int64_t j = 0; row_stride == 1 && j < cols; j += kLanes) {
    Floats v[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      v[r] = r < rows ? load<DType::kF32>(in, r * pitch + j, cols - j) : no_floats();
    }
    transpose(v);
    for (int c = 0; c < kLanes && j + c < cols; ++c) store<T>(p, (j + c) * col_stride, v[c], rows);
  }
  typename Raw<T>::type part[kLanes];
  for (int r = 0; row_stride != 1 && r < rows; ++r) {
    for (int64_t j = 0; j < cols; j += kLanes) {
      const int64_t width = std::min<int64_t>(kLanes, cols - j);
      store<T>(part, 0, load<DType::kF32>(in, r * pitch + j, width));
      for (int64_t c = 0; c < width; ++c) p[r * row_stride + (j + c) * col_stride] = part[c];
    }
  }
}

using Gather = decltype(&gather<DType::kF32>);
using Scatter = decltype(&scatter<DType::kF32>);

Gather gather_of(DType t) {
  return t == DType::kF32 ? gather<DType::kF32> : t == DType::kBF16 ? gather<DType::kBF16> : gather<DType::kF16>;
}
Scatter scatter_of(DType t) {
  return t == DType::kF32 ? scatter<DType::kF32> : t == DType::kBF16 ? scatter<DType::kBF16> : scatter<DType::kF16>;
}

// ---- the call

struct Workspace {
  explicit Workspace(int64_t floats) : data(static_cast<float*>(_mm_malloc(floats * 4 + 64, 64))) {}
  ~Workspace() { _mm_free(data); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  float* data;
};

int64_t bytes_of(DType t) { return t == DType::kF32 ? 4 : 2; }

// How the rows are cut, by shape alone: into pieces of `length`, and tasks of up to `batch` pieces, which lie down a
// column of pieces or along a row.
struct Cut {
  Matrix x, out;
  bool staged = false;
  bool down = false;
  int64_t length = 0;
  int64_t batch = 1;
  int64_t lines = 0;     // columns of pieces, or rows
  int64_t line = 0;      // pieces in one of them
  int64_t per_line = 0;  // tasks
};

Cut cut_of(const HadamardArgs& args, const Plan& plan, bool staged) {
  constexpr int64_t kRun = 8192, kStage = 131072;  // floats
  Cut cut;
  cut.x = args.x;
  cut.out = args.out;
  cut.staged = staged;
  const bool one_row = args.x.row_stride == args.x.cols && args.out.row_stride == args.x.cols;
  if (plan.in_runs() && !staged && one_row && (!args.sign || args.sign_length == plan.n)) {
    cut.x.cols = args.x.rows * args.x.cols;
    cut.x.rows = 1;
  }
  cut.length = plan.in_runs() ? std::min(cut.x.cols, kRun) : plan.n;
  const bool neighbours = staged && (args.x.row_stride == 1 || args.out.row_stride == 1);
  if (!plan.in_runs() || neighbours) {
    cut.batch = std::clamp<int64_t>((plan.in_panels() || neighbours ? kStage : kRun) / cut.length, 1, kLanes);
  }
  const int64_t per_row = (cut.x.cols + cut.length - 1) / cut.length;
  cut.down = neighbours || per_row == 1 || (plan.in_panels() && cut.x.rows >= per_row);
  cut.lines = cut.down ? per_row : cut.x.rows;
  cut.line = cut.down ? cut.x.rows : per_row;
  cut.per_line = (cut.line + cut.batch - 1) / cut.batch;
  return cut;
}

// Task `t` of a cut, without its signs.
Pieces pieces_of(const Cut& cut, int64_t t, int64_t* row, int64_t* col) {
  const int64_t line = t / cut.per_line, first = t % cut.per_line * cut.batch;
  *row = cut.down ? first : line;
  *col = (cut.down ? line : first) * cut.length;
  const int64_t row_step = cut.down ? 1 : 0, col_step = cut.down ? 0 : cut.length;
  const auto offset = [](const Matrix& m, int64_t r, int64_t c) {
    return (r * m.row_stride + c * m.col_stride) * bytes_of(m.dtype);
  };
  Pieces p;
  p.x = static_cast<const char*>(cut.x.data) + offset(cut.x, *row, *col);
  p.out = static_cast<char*>(cut.out.data) + offset(cut.out, *row, *col);
  p.x_step = offset(cut.x, row_step, col_step);
  p.out_step = offset(cut.out, row_step, col_step);
  p.length = std::min(cut.length, cut.x.cols - *col);
  p.count = static_cast<int>(std::min(cut.batch, cut.line - first));
  return p;
}

}  // namespace

Status hadamard(const HadamardArgs& args, const Parallel& parallel) {
  HadamardSize size;
  LOWBIT_RETURN_IF_ERROR(check_hadamard(args, &size));
  cpu::ran(LOWBIT_KERNEL("hadamard"));
  if (args.x.rows == 0) return Status();
  const HadamardMatrix& matrix = hadamard_matrix(size.base);
  Plan plan;
  plan.base = {size.base, args.transpose, args.transpose ? matrix.transposed_signs.data() : matrix.signs.data()};
  plan.log2 = size.log2;
  plan.n = args.block;
  plan.transpose = args.transpose;
  plan.scale = args.scale;

  Transform kernel = transform_of(args.x, args.out);
  const Cut cut = cut_of(args, plan, kernel == nullptr);
  if (cut.staged) kernel = transform_pieces<DType::kF32, DType::kF32>;

  const bool sign_a_block = args.sign_length == plan.n;
  float repeated[kSet];  // the signs of a block, for runs of blocks that are shorter than a register set
  if (args.sign && sign_a_block && plan.in_runs()) {
    for (int64_t i = 0; i < kSet; ++i) repeated[i] = args.sign[i % plan.n];
  }

  const int64_t pitch = round_up(cut.length, kLanes);
  const int64_t stage = cut.staged ? pitch * cut.batch : 0;
  const bool sums_in_out = cut.staged || args.out.dtype == DType::kF32 || plan.in_runs();
  const int64_t sums = plan.in_panels() ? plan.n * kLanes : sums_in_out ? 0 : plan.n;
  const int64_t base_space = size.base > 1 ? base_workspace(size.base, 2 * kLanes) : 0;
  std::atomic<bool> out_of_memory{false};
  const int64_t tasks = cut.lines * cut.per_line;
  parallel(tasks, std::max<int64_t>(1, 16384 / (cut.length * cut.batch)), [&](int64_t begin, int64_t end) {
    const Workspace workspace(stage + sums + base_space);
    if (!workspace.data) {
      out_of_memory = true;
      return;
    }
    float* const staging = workspace.data;
    for (int64_t t = begin; t < end; ++t) {
      int64_t row, col;
      const Pieces given = pieces_of(cut, t, &row, &col);
      Pieces p = given;
      if (args.sign && sign_a_block && plan.in_runs()) {
        p.sign = {repeated, 0};
      } else if (args.sign) {
        p.sign = {args.sign + (sign_a_block ? 0 : col), kSet};
        p.sign_step = sign_a_block || cut.down ? 0 : cut.length;
      }
      if (!cut.staged) {
        kernel(plan, p, workspace.data);
        continue;
      }
      const auto step = [](int64_t bytes, DType t) { return bytes / bytes_of(t); };
      gather_of(args.x.dtype)(given.x, step(given.x_step, args.x.dtype), args.x.col_stride, p.count, p.length, staging,
                              pitch);
      p.x = p.out = reinterpret_cast<char*>(staging);
      p.x_step = p.out_step = pitch * 4;
      kernel(plan, p, workspace.data + stage);
      scatter_of(args.out.dtype)(staging, pitch, p.count, p.length, given.out, step(given.out_step, args.out.dtype),
                                 args.out.col_stride);
    }
  });
  return out_of_memory ? Status(Code::kOutOfMemory, "hadamard: no memory for the workspace of a block") : Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
