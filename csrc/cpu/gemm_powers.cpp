#include "cpu/gemm_powers.h"

#include <cmath>

namespace lowbit::cpu {
namespace {

constexpr int32_t kLeast = -126, kMost = 127;  // exponents of normal numbers
constexpr int32_t kSumBits = 5;                // of 32 products

bool are_powers(const BlockValues& scale) {
  int exponent = 0;
  return scale && scale.codes.format != nullptr && scale.codes.format->specials == kPower && scale.second == nullptr &&
         scale.block.rows == 1 && scale.block.cols != 0 && std::frexp(scale.unit, &exponent) == 0.5f;
}

// Of scales of w, for products with x.
PowerWindow scale_window(const CodeTables& w, Powers x) {
  return {std::max({kLeast, kLeast - w.powers_low, kLeast - w.powers_low - x.low}),
          std::min({kMost, kMost - w.powers_high, kMost - kSumBits - w.powers_high - x.high})};
}

}  // namespace

bool find_window(const CodeTables& w, const CodeTables* x, Powers of_x, PowerWindow* window) {
  for (const CodeTables* table : {&w, x}) {
    if (table != nullptr && (table->powers_low > 0 || table->powers_high < 0)) return false;
  }
  const PowerWindow plain = scale_window(w, x != nullptr ? Powers{x->powers_low, x->powers_high} : of_x);
  *window = scale_window(w, of_x);
  return plain.least <= 0 && plain.most >= 0 && of_x.low >= kLeast && of_x.high <= kMost &&
         window->least <= window->most;
}

Powers scaled_powers(const CodeTables& table, const float* scale, int64_t n) {
  int32_t low = INT_MAX, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = static_cast<int32_t>(float_to_bits(scale[i]));
    low = std::min(low, bits), high = std::max(high, bits);
  }
  return {table.powers_low + (low >> 23) - 127, table.powers_high + (high >> 23) - 127};
}

Powers float_powers(const uint16_t* x, int64_t n) {
  constexpr int kNormal = 0x80;
  // Magnitudes less kNormal, in unsigned order as signed numbers: what is not normal comes last.
  int16_t low = INT16_MAX, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto magnitude = static_cast<int16_t>(x[i] & 0x7fff);
    const auto ordered = static_cast<int16_t>((magnitude - kNormal) ^ 0x8000);
    low = ordered < low ? ordered : low;
    high = magnitude > high ? magnitude : high;
  }
  if (high < kNormal) return {};
  return {((low + 0x8000 + kNormal) >> 7) - 127 - 7, (high >> 7) - 127 + 1};
}

bool scales_are_powers(const GemmArgs& a) {
  if (a.out.dtype == DType::kI32 || a.w.high != nullptr || a.w.zero || !are_powers(a.w.scale)) return false;
  if (!exact_in_bf16(*a.w.codes.format)) return false;
  if (a.xq == nullptr) return a.x.dtype == DType::kBF16 && a.x.col_stride == 1;
  return !a.xq->zero && are_powers(a.xq->scale) && exact_in_bf16(*a.xq->codes.format);
}

}  // namespace lowbit::cpu
