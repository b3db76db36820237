#include "cpu/code_tables.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <memory>
#include <new>

#include "common/matrix.h"

namespace lowbit::cpu {
namespace {

// The values times `unit`.
void fill_floats(const ElementFormat& f, const float* codebook, float unit, CodeTables* t) {
  t->has_low = false;
  for (int c = 0; c < 256; ++c) {
    const float v = decode(f, static_cast<uint32_t>(c & (f.codes() - 1)), codebook) * unit;
    t->f32[c] = v;
    t->bf16[c] = float_to_bf16(v);
    t->f32_high[c] = static_cast<uint16_t>(float_to_bits(v) >> 16);
    t->f32_low[c] = static_cast<uint16_t>(float_to_bits(v));
    t->has_low = t->has_low || t->f32_low[c] != 0;
  }
  t->has_borders = f.has_sign() && f.bits == 8 && f.mantissa <= 4 && unit == 1.0f;
  for (int c = 0; t->has_borders && c < 128; ++c) {
    const int exponent = c >> f.mantissa;
    if (exponent == 0 || exponent == (1 << f.exponent) - 1) t->borders[c % 32] = t->bf16[c];
  }
}

void fill_powers(CodeTables* t) {
  t->powers_low = INT_MAX, t->powers_high = INT_MIN;
  for (const float v : t->f32) {
    if (v == 0.0f || !std::isfinite(v)) continue;
    int exponent = 0;
    auto integer = static_cast<int32_t>(std::frexp(v, &exponent) * 16777216.0f);  // of at most 24 bits
    t->powers_high = std::max(t->powers_high, exponent);
    for (exponent -= 24; integer % 2 == 0; integer /= 2) ++exponent;
    t->powers_low = std::min(t->powers_low, exponent);
  }
}

void fill_bytes(const ElementFormat& f, CodeTables* t) {
  const int n = f.codes();
  int32_t value[256];
  for (int c = 0; c < n; ++c) value[c] = static_cast<int32_t>(t->f32[c] * pow2(t->shift));
  t->low = *std::min_element(value, value + n);
  t->high = *std::max_element(value, value + n);
  const bool odd_only = t->high - t->low > 255;  // bipolar8: the odd numbers from -255 to 255
  t->factor = odd_only ? 2 : 1;
  t->offset = -t->low;
  t->s8_offset = odd_only ? 1 : t->low >= -128 && t->high <= 127 ? 0 : 128;
  for (int c = 0; c < 256; ++c) {
    const int32_t v = value[c & (n - 1)];
    t->u8[c] = static_cast<uint8_t>((v + t->offset) / t->factor);
    t->s8[c] = static_cast<int8_t>((v - t->s8_offset) / t->factor);
  }
  for (int shift = 1; shift >= 0; --shift) {
    const int flip = t->u8[0] >> shift;
    bool all = true;
    for (int c = 0; c < n; ++c) all = all && t->u8[c] == (c ^ flip) << shift;
    if (all) t->u8_flip = flip, t->u8_shift = shift;
  }
}

// Made once, in `slot`.
const CodeTables* make_tables(const ElementFormat& f, bool integers, std::atomic<const CodeTables*>* slot) {
  if (const CodeTables* t = slot->load(std::memory_order_acquire)) return t;
  std::unique_ptr<CodeTables> t(new (std::nothrow) CodeTables());
  if (t == nullptr) return nullptr;
  fill_floats(f, nullptr, 1.0f, t.get());
  t->shift = int8_shift(f);
  t->u8_flip = -1;
  if (t->shift >= 0) fill_bytes(f, t.get());
  fill_powers(t.get());
  if (integers) fill_floats(f, nullptr, pow2(t->shift), t.get());
  const CodeTables* other = nullptr;  // of a thread that was quicker
  return slot->compare_exchange_strong(other, t.get(), std::memory_order_acq_rel) ? t.release() : other;
}

}  // namespace

const CodeTables* code_tables(const ElementFormat& f) {
  static std::atomic<const CodeTables*> made[kFormatCount];
  return make_tables(f, false, &made[&f - kFormats]);
}

const CodeTables* integer_tables(const ElementFormat& f) {
  static std::atomic<const CodeTables*> made[kFormatCount];
  return make_tables(f, true, &made[&f - kFormats]);
}

void fill_codebook(const ElementFormat& f, const float* values, CodeTables* tables) {
  tables->shift = tables->u8_flip = -1;
  fill_floats(f, values, 1.0f, tables);
}

}  // namespace lowbit::cpu
