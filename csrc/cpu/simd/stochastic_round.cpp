// stochastic_round and the update of a weight, in runs of 512 elements.
#include <atomic>

#include "cpu/dispatch.h"
#include "cpu/simd/code_runs.h"
#include "cpu/simd/encode.h"
#include "cpu/simd/lookup.h"
#include "cpu/simd/quantize.h"
#include "cpu/simd/random.h"
#include "cpu/simd/spread.h"
#include "cpu/simd/values.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

int64_t row_grain(int64_t cols) { return 1 + 32768 / (cols + 1); }

// Calls f(encoder) for a format that has one here, else returns false.
template <class F>
bool with_encoder(const ElementFormat& f, F body) {
  if (f.kind == Kind::kInt && f.rule == kBipolar) {
    body(BipolarEncoder(f));
  } else if (f.kind == Kind::kInt && f.rule != kComplex) {
    body(IntEncoder(f));
  } else if (f.kind == Kind::kFloat && f.specials != kPower) {
    body(FloatEncoder(f));
  } else {
    return false;
  }
  return true;
}

// False when it met a NaN that the format does not have.
template <class Encoder>
bool round_rows(const StochasticRoundArgs& a, const Encoder& encoder, bool has_nan, int64_t begin, int64_t end) {
  alignas(64) float t[kBlock];
  RandomRun random;
  const bool halves = a.format->bits == 16;  // their codes are what is stored
  Mask nan = none();
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t c = 0; c < a.x.cols; c += kBlock) {
      const int64_t n = std::min(kBlock, a.x.cols - c);
      load_row(a.x, r, c, n, t);
      const uint16_t* bits = random.fill(a.random, static_cast<uint64_t>(r * a.x.cols + c), n);
      for (int64_t i = 0; i < n; i += kLanes) {
        const Floats x = load(t + i, n - i);
        nan = either(nan, is_nan(x));
        const Ints u = widen(load_halves(bits + i));
        const Ints codes = encoder.stochastic(x, u);
        const int64_t at = r * a.out.row_stride + c + i;
        if (halves) {
          store_halves(static_cast<uint16_t*>(a.out.data) + at, n - i, narrow(codes));
        } else {
          store_as(a.out.data, a.out.dtype, at, n - i, encoder.value(codes));
        }
      }
    }
  }
  return has_nan || !any(nan);
}

// Scales and zero points of the codes as they are and as they will be.
struct Grids {
  const BlockValues &scale, &zero, &new_scale, &new_zero;
};

Floats divide(Floats v, Floats scale) {  // by a scale of 0: 0
  return keep(differ(scale, no_floats()), div(v, scale));
}

template <class Encoder, class Lookup>
void update_rows(const WeightUpdateArgs& a, const Encoder& encoder, const Lookup& lookup, Canonical kind,
                 const Grids& grids, int64_t begin, int64_t end) {
  static const float kOne[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};  // kLanes at most
  const Codes& w = a.w.codes;
  alignas(64) float dw[kBlock];
  alignas(64) uint8_t encoded[kBlock];
  RandomRun random;
  Spread scale(grids.scale), zero(grids.zero), new_scale(grids.new_scale), new_zero(grids.new_zero);
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t c = 0; c < w.cols; c += kBlock) {
      const int64_t n = std::min(kBlock, w.cols - c);
      Run codes;
      load_run(w, kind, r, c, codes);
      load_row(a.dw, r, c, n, dw);
      const uint16_t* bits = random.fill(a.random, static_cast<uint64_t>((a.first_row + r) * w.cols + c), n);
      Steps old = {kOne, nullptr, 0, 0}, next = old;
      old.scale = scale.at(r, c, n, &old.scale_step);
      if (a.rescale) {
        if (grids.zero.data != nullptr) old.zero = zero.at(r, c, n, &old.zero_step);
        next.scale = new_scale.at(r, c, n, &next.scale_step);
        if (grids.new_zero.data != nullptr) next.zero = new_zero.at(r, c, n, &next.zero_step);
      }
      for (int64_t j = 0; j < n; j += kChunk) {
        Floats v[4];
        lookup(codes[j / kChunk], v);
        for (int q = 0; q < 4 && j + kLanes * q < n; ++q) {
          const int64_t i = j + kLanes * q;
          const Floats step = load(dw + i, n - i);
          const Floats s = load(old.scale + i * old.scale_step);
          Floats y;
          if (a.rescale) {
            y = v[q];
            if (old.zero != nullptr) y = sub(y, load(old.zero + i * old.zero_step));
            y = add(mul(y, s), step);
            y = divide(y, load(next.scale + i * next.scale_step));
            if (next.zero != nullptr) y = add(y, load(next.zero + i * next.zero_step));
          } else {
            y = add(v[q], divide(step, s));
          }
          const Ints u = widen(load_halves(bits + i));
          store_low_bytes(encoded + i, encoder.stochastic(y, u));
        }
      }
      for (int i = 0; i < kChunks; ++i) {
        codes[i] = i * kChunk < n ? first_bytes(load_ints(encoded + i * kChunk), n - i * kChunk) : no_ints();
      }
      store_run(w, kind, r, c, codes);
    }
  }
}

}  // namespace

Status stochastic_round(const StochasticRoundArgs& a, const Parallel& parallel) {
  const ElementFormat& f = *a.format;
  if (f.kind != Kind::kInt && f.kind != Kind::kFloat) return ref::stochastic_round(a, parallel);
  const bool has_nan = f.kind == Kind::kFloat && f.specials != kFinite;
  std::atomic<bool> good{true};
  const bool done = with_encoder(f, [&](const auto& encoder) {
    parallel(a.x.rows, row_grain(a.x.cols), [&](int64_t begin, int64_t end) {
      if (!round_rows(a, encoder, has_nan, begin, end)) good.store(false, std::memory_order_relaxed);
    });
  });
  if (!done || !good.load()) return ref::stochastic_round(a, parallel);  // it says what is wrong
  cpu::ran(LOWBIT_KERNEL("stochastic_round"));
  return Status();
}

Status stochastic_round_update(const WeightUpdateArgs& a, const Parallel& parallel) {
  const ElementFormat& f = *a.w.codes.format;
  const Canonical kind = layout_kind(f, a.w.codes.layout);
  BlockValues second, new_scale, new_zero;
  if (a.rescale) {
    new_scale = scale_view(a.scaling, &second);
    new_zero = zero_view(a.scaling);
  }
  const Grids grids = {a.w.scale, a.w.zero, new_scale, new_zero};
  float values[256];
  ref::decode_table(f, nullptr, values);
  const bool done = with_encoder(f, [&](const auto& encoder) {
    with_lookup(values, f.bits, [&](const auto& lookup) {
      parallel(a.w.codes.rows, row_grain(a.w.codes.cols),
               [&](int64_t begin, int64_t end) { update_rows(a, encoder, lookup, kind, grids, begin, end); });
    });
  });
  if (!done) return ref::stochastic_round_update(a, parallel);
  cpu::ran(LOWBIT_KERNEL("stochastic_round_update_"));
  return Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
