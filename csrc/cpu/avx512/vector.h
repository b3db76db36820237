// The vectors of cpu/simd/vector.h on AVX-512: 16 lanes, masks in registers of their own. Static, as all of this
// folder's headers.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "common/matrix.h"

namespace lowbit::avx512 {
namespace {

constexpr int kLanes = 16;
constexpr int kBytes = 64;
constexpr int kVectorRegisters = 32;
using Floats = __m512;
using Ints = __m512i;
using Halves = __m256i;
using Mask = __mmask16;

LOWBIT_INLINE Floats as_floats(Ints v) { return _mm512_castsi512_ps(v); }
LOWBIT_INLINE Ints as_ints(Floats v) { return _mm512_castps_si512(v); }

// ---- masks

LOWBIT_INLINE Mask lanes_below(int64_t n) {
  return static_cast<Mask>(n >= 16 ? 0xffff : n <= 0 ? 0 : 0xffff >> (16 - n));
}
// Those whose index has the bit `bit`.
LOWBIT_INLINE Mask lanes_with(int bit) {
  return static_cast<Mask>(bit == 1 ? 0xaaaa : bit == 2 ? 0xcccc : bit == 4 ? 0xf0f0 : 0xff00);
}
LOWBIT_INLINE __mmask64 bytes_below(int64_t n) {
  return n >= 64 ? ~__mmask64{0} : n <= 0 ? 0 : ~__mmask64{0} >> (64 - n);
}
LOWBIT_INLINE Floats select(Mask m, Floats yes, Floats no) { return _mm512_mask_mov_ps(no, m, yes); }
LOWBIT_INLINE Ints select(Mask m, Ints yes, Ints no) { return _mm512_mask_mov_epi32(no, m, yes); }
LOWBIT_INLINE Floats keep(Mask m, Floats v) { return _mm512_maskz_mov_ps(m, v); }  // zero elsewhere
LOWBIT_INLINE Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
LOWBIT_INLINE Mask but_not(Mask a, Mask b) { return static_cast<Mask>(a & ~b); }
LOWBIT_INLINE Mask either(Mask a, Mask b) { return static_cast<Mask>(a | b); }
LOWBIT_INLINE Mask none() { return 0; }
LOWBIT_INLINE bool any(Mask m) { return m != 0; }

// ---- floats

LOWBIT_INLINE Floats floats(float v) { return _mm512_set1_ps(v); }
LOWBIT_INLINE Floats no_floats() { return _mm512_setzero_ps(); }
LOWBIT_INLINE Floats load(const float* p) { return _mm512_loadu_ps(p); }
LOWBIT_INLINE void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
LOWBIT_INLINE Floats load(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(lanes_below(n), p); }
LOWBIT_INLINE void store(float* p, int64_t n, Floats v) { _mm512_mask_storeu_ps(p, lanes_below(n), v); }
// Loads that repeat each float of an even (odd) lane, or the low (high) half of the vector: no shuffle is needed.
LOWBIT_INLINE Floats load_even_twice(const float* p) { return _mm512_moveldup_ps(_mm512_loadu_ps(p)); }
LOWBIT_INLINE Floats load_odd_twice(const float* p) { return _mm512_movehdup_ps(_mm512_loadu_ps(p)); }
LOWBIT_INLINE Floats load_low_twice(const float* p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p)); }
LOWBIT_INLINE Floats load_high_twice(const float* p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p + 8)); }
// Past the caches: p at a multiple of the vector; others see it after stream_fence.
LOWBIT_INLINE void stream(float* p, Floats v) { _mm512_stream_ps(p, v); }
LOWBIT_INLINE void stream_fence() { _mm_sfence(); }
LOWBIT_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
LOWBIT_INLINE Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
LOWBIT_INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
LOWBIT_INLINE Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
LOWBIT_INLINE Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }  // b where either is NaN
LOWBIT_INLINE Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
LOWBIT_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
LOWBIT_INLINE Floats fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
LOWBIT_INLINE Floats abs(Floats v) { return _mm512_abs_ps(v); }
LOWBIT_INLINE Floats trunc(Floats v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
LOWBIT_INLINE Floats floor(Floats v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
LOWBIT_INLINE Mask less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
LOWBIT_INLINE Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
LOWBIT_INLINE Mask differ(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }  // NaNs do
LOWBIT_INLINE Mask is_nan(Floats v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q); }
LOWBIT_INLINE Mask is_negative(Floats v) { return _mm512_movepi32_mask(as_ints(v)); }  // by the sign bit

// ---- integers

LOWBIT_INLINE Ints ints(int32_t v) { return _mm512_set1_epi32(v); }
LOWBIT_INLINE Ints no_ints() { return _mm512_setzero_si512(); }
LOWBIT_INLINE Ints bytes(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
LOWBIT_INLINE Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
LOWBIT_INLINE void store_ints(void* p, Ints v) { _mm512_storeu_si512(p, v); }
LOWBIT_INLINE Ints load_ints(const void* p, int64_t n) { return _mm512_maskz_loadu_epi32(lanes_below(n), p); }
LOWBIT_INLINE void store_ints(void* p, int64_t n, Ints v) { _mm512_mask_storeu_epi32(p, lanes_below(n), v); }
LOWBIT_INLINE Ints load_bytes(const void* p, int64_t n) {
  return n >= 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(bytes_below(n), p);
}
LOWBIT_INLINE void store_bytes(void* p, int64_t n, Ints v) {
  if (n >= 64) return _mm512_storeu_si512(p, v);
  _mm512_mask_storeu_epi8(p, bytes_below(n), v);
}
// The first n bytes, zeros after them.
LOWBIT_INLINE Ints first_bytes(Ints v, int64_t n) { return _mm512_maskz_mov_epi8(bytes_below(n), v); }
LOWBIT_INLINE Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
LOWBIT_INLINE Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
LOWBIT_INLINE Ints mul(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
LOWBIT_INLINE Ints max_unsigned(Ints a, Ints b) { return _mm512_max_epu32(a, b); }
LOWBIT_INLINE Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
LOWBIT_INLINE Ints bit_or(Ints a, Ints b) { return _mm512_or_si512(a, b); }
LOWBIT_INLINE Ints bit_xor(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
LOWBIT_INLINE Ints bit_andnot(Ints a, Ints b) { return _mm512_andnot_si512(a, b); }
LOWBIT_INLINE Ints xor3(Ints a, Ints b, Ints c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
LOWBIT_INLINE Ints shift_left(Ints v, int n) { return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Ints shift_right(Ints v, int n) { return _mm512_srl_epi32(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Ints shift_words_right(Ints v, int n) { return _mm512_srl_epi16(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Ints shift_words_left(Ints v, int n) { return _mm512_sll_epi16(v, _mm_cvtsi32_si128(n)); }
LOWBIT_INLINE Mask less(Ints a, Ints b) { return _mm512_cmplt_epi32_mask(a, b); }
LOWBIT_INLINE Mask equal(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(a, b); }
LOWBIT_INLINE bool any_bit(Ints v) { return _mm512_test_epi32_mask(v, v) != 0; }
LOWBIT_INLINE bool any_equal_bytes(Ints a, Ints b) { return _mm512_cmpeq_epi8_mask(a, b) != 0; }

// ---- conversion

LOWBIT_INLINE Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
LOWBIT_INLINE Ints to_ints(Floats v) {  // nearest even
  return _mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
LOWBIT_INLINE Ints trunc_ints(Floats v) { return _mm512_cvttps_epi32(v); }
LOWBIT_INLINE Ints widen_bytes(const void* p) {  // kLanes bytes
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
LOWBIT_INLINE Ints widen_signed_bytes(const void* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
LOWBIT_INLINE Ints widen(Halves v) { return _mm512_cvtepu16_epi32(v); }
LOWBIT_INLINE Halves load_halves(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
LOWBIT_INLINE Halves load_halves(const void* p, int64_t n) { return _mm256_maskz_loadu_epi16(lanes_below(n), p); }
LOWBIT_INLINE void store_halves(void* p, Halves v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
LOWBIT_INLINE void store_halves(void* p, int64_t n, Halves v) { _mm256_mask_storeu_epi16(p, lanes_below(n), v); }
// The low halves of the lanes.
LOWBIT_INLINE Halves narrow(Ints v) { return _mm512_cvtepi32_epi16(v); }
// The low bytes of the lanes, at p.
LOWBIT_INLINE void store_low_bytes(void* p, Ints v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
}
LOWBIT_INLINE void store_low_bytes(void* p, int64_t n, Ints v) {
  _mm_mask_storeu_epi8(p, lanes_below(n), _mm512_cvtepi32_epi8(v));
}
LOWBIT_INLINE Floats from_f16(Halves v) { return _mm512_cvtph_ps(v); }
LOWBIT_INLINE Halves to_f16(Floats v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }

// ---- across lanes

// Part q of the bytes, kLanes of them.
template <int q>
LOWBIT_INLINE Ints widen_quarter(Ints v) {
  return _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(v, q));
}
// table[i] of 16 entries; bits of the index above the fourth are ignored.
struct SixteenFloats {
  Floats table;
  explicit SixteenFloats(const float* values) : table(load(values)) {}
  LOWBIT_INLINE Floats operator()(Ints at) const { return _mm512_permutexvar_ps(at, table); }
};
LOWBIT_INLINE Floats gather(const float* table, Ints at) { return _mm512_i32gather_ps(at, table, 4); }
// Adds every four signed bytes to the sum of their lane.
LOWBIT_INLINE Ints add_bytes(Ints sum, Ints v) { return _mm512_dpbusd_epi32(sum, bytes(1), v); }

// kLanes x kLanes numbers of 32 bits.
LOWBIT_INLINE void transpose(Ints (&v)[kLanes]) {
  Ints t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    v[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    v[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    v[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}
LOWBIT_INLINE int32_t sum_of(Ints v) { return _mm512_reduce_add_epi32(v); }
LOWBIT_INLINE uint32_t max_unsigned_of(Ints v) { return _mm512_reduce_max_epu32(v); }
LOWBIT_INLINE float first_of(Floats v) { return _mm512_cvtss_f32(v); }
LOWBIT_INLINE float max_of(Floats v) { return _mm512_reduce_max_ps(v); }
LOWBIT_INLINE float min_of(Floats v) { return _mm512_reduce_min_ps(v); }
// The lane whose number differs in bit kDistance, for every lane.
template <int kDistance>
LOWBIT_INLINE Floats exchange(Floats v) {
  static_assert(kDistance == 1 || kDistance == 2 || kDistance == 4 || kDistance == 8);
  if constexpr (kDistance == 1) return _mm512_permute_ps(v, 0xb1);
  if constexpr (kDistance == 2) return _mm512_permute_ps(v, 0x4e);
  if constexpr (kDistance == 4) return _mm512_shuffle_f32x4(v, v, 0xb1);
  return _mm512_shuffle_f32x4(v, v, 0x4e);
}

// ---- counters of common/philox.h

// The 64-bit numbers first .. first + kLanes - 1, their halves apart.
LOWBIT_INLINE void count_from(uint64_t first, Ints* low, Ints* high) {
  const Ints base = _mm512_set1_epi64(static_cast<int64_t>(first));
  const Ints a = _mm512_add_epi64(base, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  const Ints b = _mm512_add_epi64(base, _mm512_setr_epi64(8, 9, 10, 11, 12, 13, 14, 15));
  const Ints even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  *low = _mm512_permutex2var_epi32(a, even, b);
  *high = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}
// Both halves of the 64-bit products of the lanes and m.
LOWBIT_INLINE void multiply_wide(Ints a, uint32_t m, Ints* high, Ints* low) {
  const Ints factor = _mm512_set1_epi64(m);
  const Ints even = _mm512_mul_epu32(a, factor);
  const Ints odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
  *low = _mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA);
  *high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
}
// The 128-bit parts of v, 64 bytes apart.
LOWBIT_INLINE void store_parts(__m128i* p, Ints v) {
  _mm_storeu_si128(p, _mm512_castsi512_si128(v));
  _mm_storeu_si128(p + 4, _mm512_extracti32x4_epi32(v, 1));
  _mm_storeu_si128(p + 8, _mm512_extracti32x4_epi32(v, 2));
  _mm_storeu_si128(p + 12, _mm512_extracti32x4_epi32(v, 3));
}
LOWBIT_INLINE Ints interleave_low32(Ints a, Ints b) { return _mm512_unpacklo_epi32(a, b); }
LOWBIT_INLINE Ints interleave_high32(Ints a, Ints b) { return _mm512_unpackhi_epi32(a, b); }
LOWBIT_INLINE Ints interleave_low64(Ints a, Ints b) { return _mm512_unpacklo_epi64(a, b); }
LOWBIT_INLINE Ints interleave_high64(Ints a, Ints b) { return _mm512_unpackhi_epi64(a, b); }

}  // namespace
}  // namespace lowbit::avx512
