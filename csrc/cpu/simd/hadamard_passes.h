// The passes of the Hadamard transform over rows of 2^k (hadamard.cpp tells which follow each other). Static, as all of
// this folder's headers.
#pragma once

#include <algorithm>

#include "cpu/simd/values.h"

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

// Butterflies between the lanes of a vector that lies in memory: `a` and `b` are the loads that repeat either partner,
// so that no shuffle is needed.
LOWBIT_INLINE Floats lane_butterfly(Floats a, Floats b, Floats sign) { return fma(b, sign, a); }

LOWBIT_INLINE Floats sign_of_lanes(int distance) { return select(lanes_with(distance), floats(-1.0f), floats(1.0f)); }

// kLanes from index i, flipped by `sign` if kSigned, after the stage of distance 1.
template <DType T, bool kSigned>
LOWBIT_INLINE Floats load_paired(const void* data, int64_t i, const float* sign) {
  const Floats by = sign_of_lanes(1);
  if constexpr (T == DType::kF32 && !kSigned) {
    const float* p = static_cast<const float*>(data) + i;
    return lane_butterfly(load_even_twice(p), load_odd_twice(p), by);
  } else {
    Floats v = load<T>(data, i);
    if constexpr (kSigned) v = flip(v, load(sign + i));
    return fma(v, by, exchange<1>(v));
  }
}

// Signs that stand beside a run of floats: element i has data[i / kSet * step + i % kSet].
struct Signs {
  const float* data = nullptr;
  int64_t step = 0;  // kSet, or 0 where kSet of them repeat
};

LOWBIT_INLINE void flip_set(Floats (&v)[16], const Signs& signs, int64_t i) {
  if (!signs.data) return;
  const float* s = signs.data + i / kSet * signs.step;
  LOWBIT_UNROLL
  for (int r = 0; r < 16; ++r) v[r] = flip(v[r], load(s + r * kLanes));
}

// The block after this one, which the first pass reads in many streams that no hardware prefetcher follows. Asked for a
// set at a time while this one is finished; past the end of x it does nothing.
struct Ahead {
  const char* data = nullptr;
  int64_t set_bytes = 0;
  bool near = false;  // a block of both fits the first-level cache

  Ahead from(int64_t i) const { return {data ? data + i / kSet * set_bytes : nullptr, set_bytes, near}; }
};

template <_mm_hint kHint>
LOWBIT_INLINE void prefetch_lines(const char* p, int64_t bytes) {
  constexpr int64_t kUnit = 512;
  for (; bytes > 0; bytes -= kUnit, p += kUnit) {
    LOWBIT_UNROLL
    for (int64_t b = 0; b < kUnit; b += 64) _mm_prefetch(p + b, kHint);
  }
}

LOWBIT_INLINE void prefetch_set(const Ahead& ahead, int64_t i) {
  if (!ahead.data) return;
  const char* p = ahead.data + i / kSet * ahead.set_bytes;
  ahead.near ? prefetch_lines<_MM_HINT_T0>(p, ahead.set_bytes) : prefetch_lines<_MM_HINT_T1>(p, ahead.set_bytes);
}

// How a block leaves its last pass.
struct Finish {
  Signs sign;
  float scale = 1.0f;
  bool stream = false;  // past the caches
  Ahead ahead;

  Finish from(int64_t i) const {
    return {{sign.data ? sign.data + i / kSet * sign.step : nullptr, sign.step}, scale, stream, ahead.from(i)};
  }
};

template <int kCount>
LOWBIT_INLINE void put(float* p, const Floats (&v)[kCount], bool past) {
  if (past) {
    LOWBIT_UNROLL
    for (int r = 0; r < kCount; ++r) stream(p + r * kLanes, v[r]);
  } else {
    LOWBIT_UNROLL
    for (int r = 0; r < kCount; ++r) store(p + r * kLanes, v[r]);
  }
}

// The whole of a register set, scaled.
template <DType T>
LOWBIT_INLINE void store_set(void* data, int64_t i, Floats (&v)[16], Floats factor, bool past) {
  LOWBIT_UNROLL
  for (auto& x : v) x = mul(x, factor);
  if constexpr (T == DType::kF32) return put(static_cast<float*>(data) + i, v, past);
#ifdef __AVX512BF16__
  if constexpr (T == DType::kBF16) {
    // vcvtne2ps2bf16 is quick, but flushes subnormals: not taken where there is one
    constexpr int kLeastMagnitude = 0xa, kSubnormal = 0x20;
    Floats least[4] = {v[0], v[1], v[2], v[3]};
    LOWBIT_UNROLL
    for (int r = 4; r < 16; ++r) least[r % 4] = _mm512_range_ps(least[r % 4], v[r], kLeastMagnitude);
    least[0] = _mm512_range_ps(least[0], least[1], kLeastMagnitude);
    least[2] = _mm512_range_ps(least[2], least[3], kLeastMagnitude);
    least[0] = _mm512_range_ps(least[0], least[2], kLeastMagnitude);
    bool subnormal = false;
    if (__builtin_expect(any(less(least[0], as_floats(ints(0x00800000)))), 0)) {  // or only zero
      for (const Floats& x : v) subnormal |= _mm512_fpclass_ps_mask(x, kSubnormal) != 0;
    }
    if (__builtin_expect(!subnormal, 1)) {
      Floats pairs[8];
      LOWBIT_UNROLL
      for (int r = 0; r < 8; ++r) {
        pairs[r] = as_floats(reinterpret_cast<Ints>(_mm512_cvtne2ps_pbh(v[2 * r + 1], v[2 * r])));
      }
      return put(reinterpret_cast<float*>(static_cast<uint16_t*>(data) + i), pairs, past);
    }
  }
#endif
  LOWBIT_UNROLL
  for (int r = 0; r < 16; ++r) store<T>(data, i + r * kLanes, v[r]);
}

// The stages between registers of a set whose distances lie below 2^log2.
LOWBIT_INLINE void register_stages(Floats (&v)[16], int log2) {
  if (log2 > kLanesLog2) stage(v, 1);
  if (log2 > kLanesLog2 + 1) stage(v, 2);
  if (log2 > kLanesLog2 + 2) stage(v, 4);
  if (log2 > kLanesLog2 + 3) stage(v, 8);
}

// The lanes pass over whole sets up to `end`. Of sums (fp32, the stage of distance 1 done, kLanesLog2 <= log2) the
// stage of distance kLanes / 2 is one of loads; of other unsigned floats that of distance 1. kSigned: there may be
// signs.
template <DType In, DType Out, bool kSums, bool kSigned>
void whole_sets(const void* x, void* out, int64_t end, int log2, Signs sign_in, const Finish& finish) {
  const Floats factor = floats(finish.scale), by = sign_of_lanes(kLanes / 2);
  const Ahead ahead = finish.ahead;
  const bool past = finish.stream;
  for (int64_t i = 0; i < end; i += kSet) {
    Floats v[16];
    LOWBIT_UNROLL
    for (int r = 0; r < 16; ++r) {
      if constexpr (kSums) {
        const float* p = static_cast<const float*>(x) + i + r * kLanes;
        v[r] = lane_butterfly(load_low_twice(p), load_high_twice(p), by);
      } else if constexpr (In == DType::kF32 && !kSigned) {
        v[r] = load_paired<In, false>(x, i + r * kLanes, nullptr);
      } else {
        v[r] = load<In>(x, i + r * kLanes);
      }
    }
    if constexpr (kSums) prefetch_set(ahead, i);
    if constexpr (kSigned) flip_set(v, sign_in, i);
    if constexpr (!kSums && (In != DType::kF32 || kSigned)) {
      if (log2 > 0) lane_stage<1>(v);
    }
    if (kSums || log2 > 1) lane_stage<2>(v);
    if constexpr (!kSums || kLanes > 8) {
      if (kSums || log2 > 2) lane_stage<4>(v);
    }
    if constexpr (!kSums && kLanes > 8) {
      if (log2 > 3) lane_stage<8>(v);
    }
    if (log2 > kLanesLog2) stage(v, 1);
    if (log2 > kLanesLog2 + 1) stage(v, 2);
    if (log2 > kLanesLog2 + 2) stage(v, 4);
    if (log2 > kLanesLog2 + 3) stage(v, 8);
    if constexpr (kSigned) flip_set(v, finish.sign, i);
    store_set<Out>(out, i, v, factor, past);
  }
}

// The lanes pass over `count` neighbours, any multiple of 2^log2, log2 <= kSetLog2. The rest of a set goes through a
// whole one: blocks do not mix, so the zeros of the missing ones do no harm.
template <DType In, DType Out, bool kSums>
void lanes(const void* x, void* out, int64_t count, int log2, Signs sign_in, const Finish& finish) {
  const int64_t end = count / kSet * kSet, rest = count - end;
  if (log2 == 0 || sign_in.data || finish.sign.data) {
    whole_sets<In, Out, kSums, true>(x, out, end, log2, sign_in, finish);
  } else {
    whole_sets<In, Out, kSums, false>(x, out, end, log2, sign_in, finish);
  }
  if (rest == 0) return;
  alignas(64) float part[kSet];
  const auto copy_signs = [&](const Signs& from, float* to) -> Signs {
    if (!from.data) return {};
    const float* s = from.data + end / kSet * from.step;
    for (int64_t c = 0; c < kSet; c += kLanes) store(to + c, load<DType::kF32>(s, c, rest - c));
    return {to, kSet};
  };
  alignas(64) float signs[2][kSet];
  const Signs in = copy_signs(sign_in, signs[0]), last = copy_signs(finish.sign, signs[1]);
  for (int64_t c = 0; c < kSet; c += kLanes) store(part + c, load<In>(x, end + c, rest - c));
  whole_sets<DType::kF32, DType::kF32, kSums, true>(part, part, kSet, log2, in, {last, finish.scale, false, {}});
  for (int64_t c = 0; c < rest; c += kLanes) store<Out>(out, end + c, load(part + c), rest - c);
}

// kRows rows `stride` apart, butterflied over columns 0..stride; kFirst: after the stage of distance 1 along them.
template <DType In, int kRows, bool kFirst, bool kSigned>
void cross_rows(const void* x, float* out, int64_t stride, const float* sign) {
  for (int64_t c = 0; c < stride; c += kLanes) {
    Floats v[kRows];
    LOWBIT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      v[r] = kFirst ? load_paired<In, kSigned>(x, r * stride + c, sign) : load<In>(x, r * stride + c);
    }
    butterflies(v);
    LOWBIT_UNROLL
    for (int r = 0; r < kRows; ++r) store(out + r * stride + c, v[r]);
  }
}

template <DType In, bool kFirst, bool kSigned>
void cross_some(const void* x, float* out, int64_t stride, int log2, const float* sign) {
  switch (log2) {
    case 1: return cross_rows<In, 2, kFirst, kSigned>(x, out, stride, sign);
    case 2: return cross_rows<In, 4, kFirst, kSigned>(x, out, stride, sign);
    case 3: return cross_rows<In, 8, kFirst, kSigned>(x, out, stride, sign);
    default: return cross_rows<In, 16, kFirst, kSigned>(x, out, stride, sign);
  }
}

// The cross pass: 2^log2 rows, 1 <= log2 <= 4. sign: of the first pass alone.
template <DType In, bool kFirst>
void cross(const void* x, float* out, int64_t stride, int log2, const float* sign) {
  if constexpr (kFirst) {
    if (sign) return cross_some<In, true, true>(x, out, stride, log2, sign);
  }
  cross_some<In, kFirst, false>(x, out, stride, log2, nullptr);
}

constexpr int kLeafLog2 = kSetLog2 + 4;  // two passes without leaving the first cache

// The stages that are left of rows of 2^log2 sums after the first pass, `count` floats in all; kLanesLog2 <= log2.
template <DType Out>
void rows_of_sums(float* sums, void* out, int64_t count, int log2, const Finish& finish) {
  if (log2 <= kSetLog2) return lanes<DType::kF32, Out, true>(sums, out, count, log2, {}, finish);
  const int64_t n = int64_t{1} << log2;
  const int rest = log2 <= kLeafLog2 ? kSetLog2 : std::max(kLeafLog2, log2 - 4);
  for (int64_t i = 0; i < count; i += n) {
    cross<DType::kF32, false>(sums + i, sums + i, int64_t{1} << rest, log2 - rest, nullptr);
    void* to = static_cast<typename Raw<Out>::type*>(out) + i;
    rows_of_sums<Out>(sums + i, to, n, rest, finish.from(i));
  }
}

// H_{2^log2} of one row, log2 > kSetLog2. `sums` has room for the row.
template <DType In, DType Out>
void row(const void* x, void* out, float* sums, int log2, const float* sign_in, const Finish& finish) {
  const int rest = log2 <= kLeafLog2 ? kSetLog2 : std::max(kLeafLog2, log2 - 4);
  cross<In, true>(x, sums, int64_t{1} << rest, log2 - rest, sign_in);
  rows_of_sums<Out>(sums, out, int64_t{1} << log2, rest, finish);
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
