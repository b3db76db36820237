// mma.sync of s8, u8, s4, u4 (d = c + a * b, wrapping or saturating) and of b1 (d = c + popcount(a op b)).
#include <cstring>

#include "emu/exec/mma.h"
#include "emu/exec/vectorize.h"

namespace emu {
namespace {

using V8f = float __attribute__((vector_size(32)));

// Integers travel as floats: the largest sum, 32 products of 255 * 255, is below 2^24, so nothing is rounded.
EMU_VECTORIZE
void widen_signed(const uint8_t* in, int count, float* out) {
  for (int i = 0; i < count; ++i) out[i] = static_cast<float>(static_cast<int8_t>(in[i]));
}
EMU_VECTORIZE
void widen_unsigned(const uint8_t* in, int count, float* out) {
  for (int i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]);
}

// The low half of a byte is the lower k. `flip` 8: signed halves.
EMU_VECTORIZE
void split(const uint8_t* in, int count, int flip, uint8_t* out) {
  for (int i = 0; i < count; ++i) {
    out[2 * i] = static_cast<uint8_t>(((in[i] & 15) ^ flip) - flip);
    out[2 * i + 1] = static_cast<uint8_t>(((in[i] >> 4) ^ flip) - flip);
  }
}

// Elements of one operand as floats, [row][k].
void widen(const uint8_t* rows, int count, int bits, bool is_signed, float* out) {
  alignas(64) uint8_t bytes[16 * 64];
  if (bits == 4) {
    split(rows, count / 2, is_signed ? 8 : 0, bytes);
    rows = bytes;
  }
  if (is_signed) {
    widen_signed(rows, count, out);
  } else {
    widen_unsigned(rows, count, out);
  }
}

EMU_VECTORIZE
void product(const float* a, const float* b, int32_t* sums, int m, int k) {
  for (int i = 0; i < m; i += 4) {
    V8f s0 = {}, s1 = {}, s2 = {}, s3 = {};
    const float* a0 = a + i * k;
    for (int x = 0; x < k; ++x) {
      const V8f column = reinterpret_cast<const V8f*>(b)[x];
      s0 += a0[x] * column;
      s1 += a0[x + k] * column;
      s2 += a0[x + 2 * k] * column;
      s3 += a0[x + 3 * k] * column;
    }
    for (int j = 0; j < 8; ++j) {
      sums[i * 8 + j] = static_cast<int32_t>(s0[j]);
      sums[i * 8 + 8 + j] = static_cast<int32_t>(s1[j]);
      sums[i * 8 + 16 + j] = static_cast<int32_t>(s2[j]);
      sums[i * 8 + 24 + j] = static_cast<int32_t>(s3[j]);
    }
  }
}

EMU_VECTORIZE
void add_wrapping(uint32_t* c, const int32_t* sums, int count) {
  for (int i = 0; i < count; ++i) c[i] += static_cast<uint32_t>(sums[i]);
}
EMU_VECTORIZE
void add_saturating(uint32_t* c, const int32_t* sums, int count) {
  for (int i = 0; i < count; ++i) {
    const int64_t sum = static_cast<int64_t>(static_cast<int32_t>(c[i])) + sums[i];
    c[i] = static_cast<uint32_t>(sum > INT32_MAX ? INT32_MAX : (sum < INT32_MIN ? INT32_MIN : sum));
  }
}

// words: 64-bit words of k.
EMU_VECTORIZE
void count_bits(const uint64_t* a, const uint64_t* b, uint32_t* c, int m, int words, bool exclusive_or) {
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < 8; ++j) {
      uint32_t sum = 0;
      for (int x = 0; x < words; ++x) {
        const uint64_t l = a[i * words + x], r = b[j * words + x];
        sum += static_cast<uint32_t>(__builtin_popcountll(exclusive_or ? l ^ r : l & r));
      }
      c[i * 8 + j] += sum;
    }
  }
}

}  // namespace

void run_mma_integer(Warp& w, const Instr& i, Mask active) {
  if (!whole_warp(w, active)) return;
  const MmaPlan& p = plan_of(i);
  alignas(64) uint8_t rows[16 * 64];
  alignas(64) float a[16 * 64], columns[8 * 64], b[64 * 8];
  alignas(64) int32_t sums[16 * 8];
  alignas(64) uint32_t c[16 * 8];
  gather_a(w, i.s, p, rows);
  widen(rows, p.m * p.k, p.bits, p.signed_a, a);
  gather_b(w, i.s + p.registers_a, p, rows);
  widen(rows, 8 * p.k, p.bits, p.signed_b, columns);
  for (int x = 0; x < p.k; ++x) {
    for (int j = 0; j < 8; ++j) b[x * 8 + j] = columns[j * p.k + x];
  }
  product(a, b, sums, p.m, p.k);
  gather_c(w, i.s + p.registers_a + p.registers_b, p.m, c);
  if (p.saturate) {
    add_saturating(c, sums, p.m * 8);
  } else {
    add_wrapping(c, sums, p.m * 8);
  }
  scatter_d(w, i.d, p.m, c);
}

void run_mma_binary(Warp& w, const Instr& i, Mask active) {
  if (!whole_warp(w, active)) return;
  const MmaPlan& p = plan_of(i);
  alignas(64) uint64_t a[16 * 4], b[8 * 4];
  alignas(64) uint32_t c[16 * 8];
  gather_a(w, i.s, p, reinterpret_cast<uint8_t*>(a));
  gather_b(w, i.s + p.registers_a, p, reinterpret_cast<uint8_t*>(b));
  gather_c(w, i.s + p.registers_a + p.registers_b, p.m, c);
  count_bits(a, b, c, p.m, p.k / 64, p.exclusive_or);
  scatter_d(w, i.d, p.m, c);
}

}  // namespace emu
