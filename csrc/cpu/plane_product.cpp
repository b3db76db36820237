#include "cpu/plane_product.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace lowbit::cpu {
namespace {

constexpr int64_t kAny = INT64_MAX;

// The choice: rows of x for which counts are quicker than products of bytes, [p - 1][q - 1]. Measured on Sapphire
// Rapids with N = K = 4096, against the same weights with int8 activations: where those of few rows are bound by
// reading, counts must be, too.
struct IsaRows {
  const char* isa;
  PlaneRows rows[kMaxPlanesOfW][kMaxPlanesOfX];
};
constexpr PlaneRows kNever = {1, 0};
constexpr IsaRows kTable[] = {
    // fewer rows than 16 meet vpdpbusd
    {"amx", {{{1, 96}, {1, 32}, {1, 16}, {4, 15}}, {{5, 24}, {5, 15}, kNever, kNever}}},
    {"avx512", {{{1, kAny}, {1, kAny}, {1, kAny}, {4, 24}}, {{5, kAny}, {5, 16}, kNever, kNever}}},
    {"avxvnni", {{{1, kAny}, {1, 16}, {1, 4}, {1, 1}}, {{1, 8}, {1, 2}, kNever, kNever}}},
    {"avx2", {{{1, kAny}, {1, 32}, {1, 4}, {1, 1}}, {{1, 8}, {1, 2}, kNever, kNever}}},
};

bool is_real_integer(const ElementFormat& f) { return f.is_int() && !f.is_complex(); }

// The largest |value - zero| that the types allow.
int64_t largest(const ElementFormat& f, const BlockValues& zero) {
  int64_t most = 0;
  for (int c = 0; c < f.codes(); ++c) {
    most = std::max<int64_t>(most, std::abs(decode_int(f, static_cast<uint32_t>(c))));
  }
  if (!zero || zero.dtype == DType::kF32 || zero.dtype == DType::kBF16 || zero.dtype == DType::kF16) return most;
  return zero.dtype == DType::kI32 ? INT32_MAX : most + 255;
}

}  // namespace

PlaneRows plane_rows(const char* isa, int p, int q) {
  if (p > kMaxPlanesOfW || q > kMaxPlanesOfX) return kNever;
  for (const IsaRows& row : kTable) {
    if (std::strcmp(row.isa, isa) == 0) return row.rows[p - 1][q - 1];
  }
  return kNever;
}

bool find_plane_product(const GemmArgs& args, const char* isa, PlaneProduct* product) {
  if (args.xq == nullptr || args.w.high != nullptr || !is_integer_path(args)) return false;
  const ElementFormat &w = *args.w.codes.format, &x = *args.xq->codes.format;
  if (!is_real_integer(w) || !is_real_integer(x)) return false;
  const PlaneRows rows = plane_rows(isa, w.bits, x.bits);
  if (args.m < rows.least || args.m > rows.most) return false;
  if (largest(w, args.w.zero) * largest(x, args.xq->zero) > INT32_MAX / std::max<int64_t>(args.k, 1)) return false;
  product->w_bits = w.bits;
  product->x_bits = x.bits;
  product->exclusive = x.rule == kBipolar;
  product->multiply = w.rule == kBipolar ? 2 : 1;
  const bool negative = x.rule != kUnsigned && x.rule != kBipolar;  // the weight of the highest plane of x
  for (int i = 0; i < w.bits; ++i) {
    for (int j = 0; j < x.bits; ++j) {
      const int weight = product->multiply * (1 << (i + j)) * (negative && j == x.bits - 1 ? -1 : 1);
      product->weight[i][j] = static_cast<int32_t>(0x01010101u * static_cast<uint8_t>(weight));
    }
  }
  return true;
}

}  // namespace lowbit::cpu
