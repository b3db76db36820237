// The vectors of cpu/simd/vector.h on AVX2, FMA and F16C: 8 lanes, masks in vectors. Also compiled with AVX-VNNI, in
// that namespace. Static, as all of this folder's headers.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "common/matrix.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

constexpr int kLanes = 8;
constexpr int kBytes = 32;
constexpr int kVectorRegisters = 16;
using Floats = __m256;
using Ints = __m256i;
using Halves = __m128i;
using Mask = __m256i;

LOWBIT_INLINE Floats as_floats(Ints v) { return _mm256_castsi256_ps(v); }
LOWBIT_INLINE Ints as_ints(Floats v) { return _mm256_castps_si256(v); }

// ---- masks

LOWBIT_INLINE Mask lanes_below(int64_t n) {
  const int count = n >= kLanes ? kLanes : n <= 0 ? 0 : static_cast<int>(n);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
// Those whose index has the bit `bit`.
LOWBIT_INLINE Mask lanes_with(int bit) {
  const Ints chosen = _mm256_set1_epi32(bit);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), chosen), chosen);
}
LOWBIT_INLINE Floats select(Mask m, Floats yes, Floats no) { return _mm256_blendv_ps(no, yes, as_floats(m)); }
LOWBIT_INLINE Ints select(Mask m, Ints yes, Ints no) { return _mm256_blendv_epi8(no, yes, m); }
LOWBIT_INLINE Floats keep(Mask m, Floats v) { return _mm256_and_ps(as_floats(m), v); }  // zero elsewhere
LOWBIT_INLINE Mask both(Mask a, Mask b) { return _mm256_and_si256(a, b); }
LOWBIT_INLINE Mask but_not(Mask a, Mask b) { return _mm256_andnot_si256(b, a); }
LOWBIT_INLINE Mask either(Mask a, Mask b) { return _mm256_or_si256(a, b); }
LOWBIT_INLINE Mask none() { return _mm256_setzero_si256(); }
LOWBIT_INLINE bool any(Mask m) { return _mm256_testz_si256(m, m) == 0; }

// ---- floats

LOWBIT_INLINE Floats floats(float v) { return _mm256_set1_ps(v); }
LOWBIT_INLINE Floats no_floats() { return _mm256_setzero_ps(); }
LOWBIT_INLINE Floats load(const float* p) { return _mm256_loadu_ps(p); }
LOWBIT_INLINE void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
LOWBIT_INLINE Floats load(const float* p, int64_t n) {
  return n >= kLanes ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, lanes_below(n));
}
LOWBIT_INLINE void store(float* p, int64_t n, Floats v) {
  n >= kLanes ? _mm256_storeu_ps(p, v) : _mm256_maskstore_ps(p, lanes_below(n), v);
}
// Loads that repeat each float of an even (odd) lane, or the low (high) half of the vector: no shuffle is needed.
LOWBIT_INLINE Floats load_even_twice(const float* p) { return _mm256_moveldup_ps(_mm256_loadu_ps(p)); }
LOWBIT_INLINE Floats load_odd_twice(const float* p) { return _mm256_movehdup_ps(_mm256_loadu_ps(p)); }
LOWBIT_INLINE Floats load_low_twice(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
LOWBIT_INLINE Floats load_high_twice(const float* p) { return load_low_twice(p + 4); }
// Past the caches: p at a multiple of the vector; others see it after stream_fence.
LOWBIT_INLINE void stream(float* p, Floats v) { _mm256_stream_ps(p, v); }
LOWBIT_INLINE void stream_fence() { _mm_sfence(); }
LOWBIT_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
LOWBIT_INLINE Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
LOWBIT_INLINE Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
LOWBIT_INLINE Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
LOWBIT_INLINE Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }  // b where either is NaN
LOWBIT_INLINE Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
LOWBIT_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
LOWBIT_INLINE Floats fnma(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }
LOWBIT_INLINE Floats abs(Floats v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
LOWBIT_INLINE Floats trunc(Floats v) { return _mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
LOWBIT_INLINE Floats floor(Floats v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
LOWBIT_INLINE Mask less(Floats a, Floats b) { return as_ints(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
LOWBIT_INLINE Mask equal(Floats a, Floats b) { return as_ints(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
LOWBIT_INLINE Mask differ(Floats a, Floats b) { return as_ints(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)); }  // NaNs do
LOWBIT_INLINE Mask is_nan(Floats v) { return as_ints(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)); }
LOWBIT_INLINE Mask is_negative(Floats v) { return _mm256_srai_epi32(as_ints(v), 31); }  // by the sign bit

// ---- integers

LOWBIT_INLINE Ints ints(int32_t v) { return _mm256_set1_epi32(v); }
LOWBIT_INLINE Ints no_ints() { return _mm256_setzero_si256(); }
LOWBIT_INLINE Ints bytes(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
LOWBIT_INLINE Ints load_ints(const void* p) { return _mm256_loadu_si256(static_cast<const Ints*>(p)); }
LOWBIT_INLINE void store_ints(void* p, Ints v) { _mm256_storeu_si256(static_cast<Ints*>(p), v); }
LOWBIT_INLINE Ints load_ints(const void* p, int64_t n) {
  return n >= kLanes ? load_ints(p) : _mm256_maskload_epi32(static_cast<const int*>(p), lanes_below(n));
}
LOWBIT_INLINE void store_ints(void* p, int64_t n, Ints v) {
  n >= kLanes ? store_ints(p, v) : _mm256_maskstore_epi32(static_cast<int*>(p), lanes_below(n), v);
}
LOWBIT_INLINE Ints load_bytes(const void* p, int64_t n) {
  if (n >= kBytes) return load_ints(p);
  alignas(32) uint8_t part[kBytes] = {};
  if (n > 0) std::memcpy(part, p, static_cast<size_t>(n));
  return load_ints(part);
}
LOWBIT_INLINE void store_bytes(void* p, int64_t n, Ints v) {
  if (n >= kBytes) return store_ints(p, v);
  alignas(32) uint8_t part[kBytes];
  store_ints(part, v);
  if (n > 0) std::memcpy(p, part, static_cast<size_t>(n));
}
// The first n bytes, zeros after them.
LOWBIT_INLINE Ints first_bytes(Ints v, int64_t n) {
  if (n >= kBytes) return v;
  const Ints at = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
                                   24, 25, 26, 27, 28, 29, 30, 31);
  return _mm256_and_si256(v, _mm256_cmpgt_epi8(bytes(n <= 0 ? 0 : static_cast<int>(n)), at));
}
LOWBIT_INLINE Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
LOWBIT_INLINE Ints sub(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
LOWBIT_INLINE Ints mul(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
LOWBIT_INLINE Ints max_unsigned(Ints a, Ints b) { return _mm256_max_epu32(a, b); }
LOWBIT_INLINE Ints bit_and(Ints a, Ints b) { return _mm256_and_si256(a, b); }
LOWBIT_INLINE Ints bit_or(Ints a, Ints b) { return _mm256_or_si256(a, b); }
LOWBIT_INLINE Ints bit_xor(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
LOWBIT_INLINE Ints bit_andnot(Ints a, Ints b) { return _mm256_andnot_si256(a, b); }
LOWBIT_INLINE Ints xor3(Ints a, Ints b, Ints c) { return bit_xor(bit_xor(a, b), c); }
LOWBIT_INLINE Ints shift_left(Ints v, int n) { return _mm256_sll_epi32(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Ints shift_right(Ints v, int n) { return _mm256_srl_epi32(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Ints shift_words_right(Ints v, int n) { return _mm256_srl_epi16(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Ints shift_words_left(Ints v, int n) { return _mm256_sll_epi16(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Mask less(Ints a, Ints b) { return _mm256_cmpgt_epi32(b, a); }
LOWBIT_INLINE Mask equal(Ints a, Ints b) { return _mm256_cmpeq_epi32(a, b); }
LOWBIT_INLINE bool any_bit(Ints v) { return _mm256_testz_si256(v, v) == 0; }
LOWBIT_INLINE bool any_equal_bytes(Ints a, Ints b) { return _mm256_movemask_epi8(_mm256_cmpeq_epi8(a, b)) != 0; }

// ---- conversion

LOWBIT_INLINE Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
LOWBIT_INLINE Ints to_ints(Floats v) { return _mm256_cvtps_epi32(v); }  // nearest even
LOWBIT_INLINE Ints trunc_ints(Floats v) { return _mm256_cvttps_epi32(v); }
LOWBIT_INLINE Ints widen_bytes(const void* p) {  // kLanes bytes
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
LOWBIT_INLINE Ints widen_signed_bytes(const void* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
LOWBIT_INLINE Ints widen(Halves v) { return _mm256_cvtepu16_epi32(v); }
LOWBIT_INLINE Halves load_halves(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
LOWBIT_INLINE Halves load_halves(const void* p, int64_t n) {
  if (n >= kLanes) return load_halves(p);
  alignas(16) uint16_t part[kLanes] = {};
  if (n > 0) std::memcpy(part, p, static_cast<size_t>(2 * n));
  return load_halves(part);
}
LOWBIT_INLINE void store_halves(void* p, Halves v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }
LOWBIT_INLINE void store_halves(void* p, int64_t n, Halves v) {
  if (n >= kLanes) return store_halves(p, v);
  alignas(16) uint16_t part[kLanes];
  store_halves(part, v);
  if (n > 0) std::memcpy(p, part, static_cast<size_t>(2 * n));
}
// The low halves of the lanes.
LOWBIT_INLINE Halves narrow(Ints v) {
  const Ints low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
  return _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}
// The low bytes of the lanes, at p.
LOWBIT_INLINE void store_low_bytes(void* p, Ints v) {
  const Halves h = narrow(_mm256_and_si256(v, _mm256_set1_epi32(0xff)));
  _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packus_epi16(h, h));
}
LOWBIT_INLINE void store_low_bytes(void* p, int64_t n, Ints v) {
  if (n >= kLanes) return store_low_bytes(p, v);
  uint8_t part[kLanes];
  store_low_bytes(part, v);
  if (n > 0) std::memcpy(p, part, static_cast<size_t>(n));
}
LOWBIT_INLINE Floats from_f16(Halves v) { return _mm256_cvtph_ps(v); }
LOWBIT_INLINE Halves to_f16(Floats v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }

// ---- across lanes

// Part q of the bytes, kLanes of them.
template <int q>
LOWBIT_INLINE Ints widen_quarter(Ints v) {
  const __m128i half = _mm256_extracti128_si256(v, q / 2);
  return _mm256_cvtepu8_epi32(q % 2 == 0 ? half : _mm_srli_si128(half, 8));
}
// table[i] of 16 entries; bits of the index above the fourth are ignored.
struct SixteenFloats {
  Floats low, high;
  explicit SixteenFloats(const float* table) : low(load(table)), high(load(table + 8)) {}
  LOWBIT_INLINE Floats operator()(Ints at) const {
    const Floats upper = as_floats(_mm256_slli_epi32(at, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, at), _mm256_permutevar8x32_ps(high, at), upper);
  }
};
LOWBIT_INLINE Floats gather(const float* table, Ints at) { return _mm256_i32gather_ps(table, at, 4); }
// Adds every four signed bytes to the sum of their lane.
LOWBIT_INLINE Ints add_bytes(Ints sum, Ints v) {
  return add(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes(1), v), _mm256_set1_epi16(1)));
}

// kLanes x kLanes numbers of 32 bits.
LOWBIT_INLINE void transpose(Ints (&v)[kLanes]) {
  Ints t[8];
  LOWBIT_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  LOWBIT_UNROLL
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  LOWBIT_UNROLL
  for (int i = 0; i < 4; ++i) {
    const Ints low = v[i], high = v[i + 4];
    v[i] = _mm256_permute2x128_si256(low, high, 0x20);
    v[i + 4] = _mm256_permute2x128_si256(low, high, 0x31);
  }
}
LOWBIT_INLINE int32_t sum_of(Ints v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
LOWBIT_INLINE uint32_t max_unsigned_of(Ints v) {
  __m128i s = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_max_epu32(s, _mm_shuffle_epi32(s, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(s, _mm_shuffle_epi32(s, 0xb1))));
}
LOWBIT_INLINE float first_of(Floats v) { return _mm256_cvtss_f32(v); }
LOWBIT_INLINE float max_of(Floats v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_permute_ps(s, 0x4e));
  return _mm_cvtss_f32(_mm_max_ps(s, _mm_permute_ps(s, 0xb1)));
}
LOWBIT_INLINE float min_of(Floats v) {
  __m128 s = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_min_ps(s, _mm_permute_ps(s, 0x4e));
  return _mm_cvtss_f32(_mm_min_ps(s, _mm_permute_ps(s, 0xb1)));
}
// The lane whose number differs in bit kDistance, for every lane.
template <int kDistance>
LOWBIT_INLINE Floats exchange(Floats v) {
  static_assert(kDistance == 1 || kDistance == 2 || kDistance == 4);
  if constexpr (kDistance == 1) return _mm256_permute_ps(v, 0xb1);
  if constexpr (kDistance == 2) return _mm256_permute_ps(v, 0x4e);
  return _mm256_permute2f128_ps(v, v, 0x01);
}

// ---- counters of common/philox.h

// The 64-bit numbers first .. first + kLanes - 1, their halves apart.
LOWBIT_INLINE void count_from(uint64_t first, Ints* low, Ints* high) {
  const Ints base = _mm256_set1_epi64x(static_cast<int64_t>(first));
  const Floats a = as_floats(_mm256_add_epi64(base, _mm256_setr_epi64x(0, 1, 4, 5)));
  const Floats b = as_floats(_mm256_add_epi64(base, _mm256_setr_epi64x(2, 3, 6, 7)));
  *low = as_ints(_mm256_shuffle_ps(a, b, 0x88));
  *high = as_ints(_mm256_shuffle_ps(a, b, 0xdd));
}
// Both halves of the 64-bit products of the lanes and m.
LOWBIT_INLINE void multiply_wide(Ints a, uint32_t m, Ints* high, Ints* low) {
  const Ints factor = _mm256_set1_epi64x(m);
  const Ints even = _mm256_mul_epu32(a, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}
// The 128-bit parts of v, 64 bytes apart.
LOWBIT_INLINE void store_parts(__m128i* p, Ints v) {
  _mm_storeu_si128(p, _mm256_castsi256_si128(v));
  _mm_storeu_si128(p + 4, _mm256_extracti128_si256(v, 1));
}
LOWBIT_INLINE Ints interleave_low32(Ints a, Ints b) { return _mm256_unpacklo_epi32(a, b); }
LOWBIT_INLINE Ints interleave_high32(Ints a, Ints b) { return _mm256_unpackhi_epi32(a, b); }
LOWBIT_INLINE Ints interleave_low64(Ints a, Ints b) { return _mm256_unpacklo_epi64(a, b); }
LOWBIT_INLINE Ints interleave_high64(Ints a, Ints b) { return _mm256_unpackhi_epi64(a, b); }

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
