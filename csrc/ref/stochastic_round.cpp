#include "ref/stochastic_round.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

namespace lowbit {
namespace {

// The code of the next value up (or down), -1 at the end of the range.
int neighbour(const ElementFormat& f, uint32_t code, bool up) {
  const int c = static_cast<int>(code), step = up ? 1 : -1;
  if (f.has_sign()) {
    const int sign = 1 << (f.bits - 1), magnitude = c & (sign - 1);
    const bool outward = up == ((c & sign) == 0);
    if (outward) return magnitude == static_cast<int>(max_code(f)) ? -1 : c + 1;
    return magnitude == 0 ? (c ^ sign) + 1 : c - 1;  // the two zeros are one value
  }
  if (f.is_int() && (f.rule == kSigned || f.rule == kTernary)) {
    const int v = decode_int(f, code) + step;
    const int low = f.rule == kTernary ? -1 : -(1 << (f.bits - 1));
    return v < low || v > static_cast<int>(max_code(f)) ? -1 : v & ((1 << f.bits) - 1);
  }
  return c + step < 0 || c + step > static_cast<int>(max_code(f)) ? -1 : c + step;
}

}  // namespace

uint32_t encode_stochastic(const ElementFormat& f, float x, uint32_t random, const float* codebook) {
  const uint32_t nearest = encode(f, x, codebook);
  const double v = decode(f, nearest, codebook);
  if (!std::isfinite(x) || std::isnan(v) || v == static_cast<double>(x)) return nearest;
  const bool below = v < static_cast<double>(x);  // nearest is the lower neighbour
  const int other = neighbour(f, nearest, below);
  if (other < 0) return nearest;
  const auto low = below ? nearest : static_cast<uint32_t>(other);
  const auto high = below ? static_cast<uint32_t>(other) : nearest;
  const double a = decode(f, low, codebook), b = decode(f, high, codebook);
  // exact for steps that are powers of two; nearbyint is to even
  const auto p = static_cast<uint32_t>(std::nearbyint((static_cast<double>(x) - a) / (b - a) * 65536.0));
  return random < p ? high : low;
}

namespace ref {
namespace {

constexpr int64_t kChunk = 4096;  // a multiple of every packing unit

void report(std::atomic<int64_t>* first, int64_t index) {
  int64_t seen = first->load(std::memory_order_relaxed);
  while ((seen < 0 || index < seen) && !first->compare_exchange_weak(seen, index)) {
  }
}

Status check_finite(const WeightUpdateArgs& a, const Parallel& parallel) {
  std::atomic<int64_t> bad{-1};
  parallel(a.dw.rows, 1 + 65536 / (a.dw.cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < a.dw.cols; ++c) {
        if (!std::isfinite(a.dw.at(r, c))) return report(&bad, r * a.dw.cols + c);
      }
    }
  });
  if (bad < 0) return Status();
  const int64_t r = bad / a.dw.cols, c = bad % a.dw.cols;
  return invalid(a.scaling.op, ": dw must be finite, got ", a.dw.at(r, c), " at row ", a.first_row + r, ", column ", c,
                 "; skip the step that made it");
}

// W + dW at (r, c).
float updated(const WeightUpdateArgs& a, int64_t r, int64_t c) {
  float v = a.w.codes.value(r, c);
  if (a.w.zero) v -= a.w.zero.at(r, c);
  return v * a.w.scale.at(r, c) + a.dw.at(r, c);
}

Status rescale(const WeightUpdateArgs& a, const Parallel& parallel) {
  const BlockStore& s = a.scaling.scale;
  const Block block = a.scaling.spec.block;
  const Codes& w = a.w.codes;
  const int64_t high = block.rows == 0 ? w.rows : block.rows, wide = block.cols == 0 ? w.cols : block.cols;
  std::vector<float> extent(static_cast<size_t>(s.rows * s.cols)), low(a.scaling.asymmetric ? extent.size() : 0);
  parallel(s.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin * s.cols; b < end * s.cols; ++b) {
      const int64_t r0 = b / s.cols * high, c0 = b % s.cols * wide;
      float least = 0, most = 0;
      for (int64_t r = r0; r < std::min(r0 + high, w.rows); ++r) {
        for (int64_t c = c0; c < std::min(c0 + wide, w.cols); ++c) {
          const float v = updated(a, r, c);
          least = std::min(least, v), most = std::max(most, a.scaling.asymmetric ? v : std::fabs(v));
        }
      }
      extent[static_cast<size_t>(b)] = a.scaling.asymmetric ? most - least : most;
      if (a.scaling.asymmetric) low[static_cast<size_t>(b)] = least;
    }
  });
  return make_scales(a.scaling, extent.data(), low.data(), parallel);
}

// Replaces codes [c0, c0 + n) of row r; c0 is a multiple of kChunk.
void replace(const Codes& w, int64_t r, int64_t c0, int64_t n, const uint32_t* codes) {
  const ElementFormat& f = *w.format;
  const Canonical kind = canonical(f);
  const bool planes = kind == Canonical::kPlanes;
  const int64_t unit = planes ? 4 : 1, first = canonical_row(kind, c0), count = canonical_row(kind, n);
  auto* data = static_cast<char*>(const_cast<void*>(w.data));
  for (int p = 0; p < (planes ? f.bits : 1); ++p) {
    std::memset(data + (p * w.plane_stride + r * w.row_stride + first) * unit, 0, static_cast<size_t>(count * unit));
  }
  for (int64_t i = 0; i < n; ++i) {
    canonical_put(kind, f.bits, data, w.row_stride, w.plane_stride, r, c0 + i, codes[i]);
  }
}

}  // namespace

Status stochastic_round(const StochasticRoundArgs& a, const Parallel& parallel) {
  const bool has_nan = a.format->is_float() && a.format->specials != kFinite;
  std::atomic<int64_t> bad{-1};
  parallel(a.x.rows, 1 + 16384 / (a.x.cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < a.x.cols; ++c) {
        const float x = a.x.at(r, c);
        if (std::isnan(x) && !has_nan) report(&bad, r * a.x.cols + c);
        const uint32_t random = a.random.bits(static_cast<uint64_t>(r * a.x.cols + c));
        a.out.set(r, c, decode(*a.format, encode_stochastic(*a.format, x, random)));
      }
    }
  });
  return bad < 0 ? Status() : nan_value(a, bad / a.x.cols, bad % a.x.cols);
}

Status nan_value(const StochasticRoundArgs& a, int64_t row, int64_t col) {
  return invalid("stochastic_round: x must not hold NaN for format ", a.format->name, ", got one at row ", row,
                 ", column ", col, "; round to a format that has NaN, or skip the step that made it");
}

Status prepare_update(const WeightUpdateArgs& a, const Parallel& parallel) {
  LOWBIT_RETURN_IF_ERROR(check_finite(a, parallel));
  try {
    if (a.rescale) LOWBIT_RETURN_IF_ERROR(rescale(a, parallel));
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "stochastic_round_update_: no memory for the extents of the blocks");
  }
  return Status();
}

Status stochastic_round_update(const WeightUpdateArgs& a, const Parallel& parallel) {
  const Codes& w = a.w.codes;
  BlockValues second, scale, zero;
  if (a.rescale) scale = scale_view(a.scaling, &second), zero = zero_view(a.scaling);
  parallel(w.rows, 1 + 16384 / (w.cols + 1), [&](int64_t begin, int64_t end) {
    uint32_t codes[kChunk];
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c0 = 0; c0 < w.cols; c0 += kChunk) {
        const int64_t n = std::min(kChunk, w.cols - c0);
        for (int64_t c = c0; c < c0 + n; ++c) {
          const float s = (a.rescale ? scale : a.w.scale).at(r, c);
          float y = s == 0 ? 0.0f : (a.rescale ? updated(a, r, c) : a.dw.at(r, c)) / s;
          if (!a.rescale) {
            y = w.value(r, c) + y;
          } else if (zero) {
            y += zero.at(r, c);
          }
          const auto index = static_cast<uint64_t>((a.first_row + r) * w.cols + c);
          codes[c - c0] = encode_stochastic(*w.format, y, a.random.bits(index), w.codebook);
        }
        replace(w, r, c0, n, codes);
      }
    }
  });
  return Status();
}

}  // namespace ref
}  // namespace lowbit
