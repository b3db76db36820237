// quantize. Floor: a copy of the bytes read and written; scales of scales (nvfp4) read x twice. A row is read in spans
// of up to 4096 columns (a buffer in the first-level cache): once for the extents of its blocks, once for its codes.
// Where blocks lie within a row, with float or E8M0 scales, a row is finished before the next (what an engine calls for
// its activations: no allocation, one read of memory). Else the extents of the whole matrix come first and the
// reference makes the scales.
//
// What fails (values that are not finite, scales that overflow) is only noticed here: the reference then tells.
#include "cpu/simd/quantize.h"

#include <atomic>
#include <cmath>
#include <new>

#include "cpu/dispatch.h"
#include "cpu/simd/code_runs.h"
#include "cpu/simd/encode.h"
#include "cpu/simd/random.h"
#include "cpu/simd/spread.h"
#include "cpu/simd/values.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

constexpr int64_t kSpan = kMaxFusedHadamard;
constexpr uint32_t kInfinity = 0x7f800000;

float as_float(uint32_t b) { return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(b)))); }
uint32_t as_bits(float f) { return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_castps_si128(_mm_set_ss(f)))); }
bool is_inf(float f) { return as_bits(f) == kInfinity; }

// Sylvester butterflies in natural order, as quantize.h has them: distances below kLanes within a register.
template <int kDistance>
inline Floats butterfly(Floats v) {
  const Floats other = exchange<kDistance>(v);
  return select(lanes_with(kDistance), sub(other, v), add(v, other));
}

// Transforms t[0 .. n) in blocks; n is a multiple of `size`, the buffer of 16.
void transform(float* t, int64_t n, int64_t size) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Floats v = load(t + i);
    if (size > 1) v = butterfly<1>(v);
    if (size > 2) v = butterfly<2>(v);
    if (size > 4) v = butterfly<4>(v);
    if constexpr (kLanes > 8) {
      if (size > 8) v = butterfly<8>(v);
    }
    store(t + i, v);
  }
  for (int64_t h = kLanes; h < size; h *= 2) {
    for (int64_t i = 0; i < n; i += 2 * h) {
      for (int64_t j = i; j < i + h; j += kLanes) {
        const Floats a = load(t + j), b = load(t + j + h);
        store(t + j, add(a, b));
        store(t + j + h, sub(a, b));
      }
    }
  }
  const Floats scale = floats(static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))));
  for (int64_t i = 0; i < n; i += kLanes) store(t + i, mul(load(t + i), scale));
}

// Elements of `size` bytes that will be read.
struct Ahead {
  const char* data = nullptr;
  int64_t size = 0;
};

// The row being worked on, as floats.
class Row {
 public:
  explicit Row(const QuantizeArgs& a)
      : a_(a), direct_(a.x.dtype == DType::kF32 && a.x.col_stride == 1 && !a.hadamard) {}

  // Columns c .. of row r; *n are there, up to the end of the span or of the row.
  const float* at(int64_t r, int64_t c, int64_t* n) {
    if (direct_) {
      *n = a_.cols - c;
      return static_cast<const float*>(a_.x.data) + r * a_.x.row_stride + c;
    }
    const int64_t first = c / kSpan * kSpan, count = std::min(kSpan, a_.cols - first);
    if (r != row_ || first != first_) {
      load_row(a_.x, r, first, count, span_);
      if (a_.hadamard > 0) transform(span_, count, a_.hadamard);
      row_ = r, first_ = first;
    }
    *n = first + count - c;
    return span_ + (c - first);
  }

  // Where columns c .. of the next row lie, which are asked for vector by vector while this one is encoded: the passes
  // over a row read memory in its first one alone, and would wait for it there.
  Ahead ahead(int64_t r, int64_t c) const {
    if (a_.x.col_stride != 1 || r + 1 >= a_.rows) return {};
    const int64_t size = a_.x.dtype == DType::kF32 ? 4 : 2;
    return {static_cast<const char*>(a_.x.data) + ((r + 1) * a_.x.row_stride + c) * size, size};
  }

 private:
  const QuantizeArgs& a_;
  bool direct_;
  int64_t row_ = -1, first_ = -1;
  alignas(64) float span_[kSpan];
};

// Extremes of values seen so far: bits of the largest magnitude, and where needed the least and largest value or 0.
struct Extremes {
  uint32_t magnitude = 0;
  float low = 0, high = 0;

  template <bool kRange>
  void see(const float* t, int64_t n) {
    const Ints sign = ints(0x7fffffff);
    Ints m[4] = {};
    Floats lo = no_floats(), hi = lo;
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      for (int u = 0; u < 4; ++u) {
        const Floats v = load(t + i + kLanes * u);
        m[u] = max_unsigned(m[u], bit_and(as_ints(v), sign));
        if (kRange) lo = min(lo, v), hi = max(hi, v);
      }
    }
    for (; i < n; i += kLanes) {
      const Floats v = load(t + i, n - i);
      m[0] = max_unsigned(m[0], bit_and(as_ints(v), sign));
      if (kRange) lo = min(lo, v), hi = max(hi, v);
    }
    const Ints all = max_unsigned(max_unsigned(m[0], m[1]), max_unsigned(m[2], m[3]));
    magnitude = std::max(magnitude, max_unsigned_of(all));
    if (kRange) {
      low = std::min(low, min_of(lo));
      high = std::max(high, max_of(hi));
    }
  }
};

// The extremes of columns [c, end) of a row.
template <bool kRange>
void see_columns(Row* row, int64_t r, int64_t c, int64_t end, Extremes* e) {
  while (c < end) {
    int64_t n = 0;
    const float* t = row->at(r, c, &n);
    n = std::min(n, end - c);
    e->see<kRange>(t, n);
    c += n;
  }
}

// The magnitudes of kLanes blocks of kLanes * `vectors` elements each, which follow each other.
Ints block_magnitudes(const float* t, int64_t vectors) {
  const Ints sign = ints(0x7fffffff);
  Ints m[kLanes];
  LOWBIT_UNROLL
  for (int i = 0; i < kLanes; ++i) {
    m[i] = bit_and(as_ints(load(t)), sign);
    t += kLanes;
    for (int64_t j = 1; j < vectors; ++j, t += kLanes) m[i] = max_unsigned(m[i], bit_and(as_ints(load(t)), sign));
  }
  transpose(m);
  LOWBIT_UNROLL
  for (int h = kLanes / 2; h > 0; h /= 2) {
    for (int i = 0; i < h; ++i) m[i] = max_unsigned(m[i], m[i + h]);
  }
  return m[0];
}

int floor_log2(float v) {  // of a positive finite float
  const uint32_t b = as_bits(v);
  return b >> 23 ? static_cast<int>(b >> 23) - 127 : 31 - __builtin_clz(b) - 149;
}

// Makes and stores the scale (and zero point) of one block at a time: scaling.h for float and E8M0 scales.
struct BlockScaler {
  const Scaling& s;
  const float unit_extent;
  const bool power;
  const int power_bias;

  explicit BlockScaler(const Scaling& scaling)
      : s(scaling),
        unit_extent(extent_of_unit_scale(scaling)),
        power(scaling.spec.scale != nullptr),
        power_bias(power ? scaling.spec.scale->bias - floor_log2(unit_extent * scaling.spec.unit) : 0) {}

  // kLanes blocks at a time, symmetric ones. False when one fails, or is not simple.
  bool store(Ints magnitudes, int64_t block) const {
    const Floats extent = as_floats(magnitudes);
    const Mask some = less(no_floats(), extent);
    if (any(less(ints(kInfinity - 1), magnitudes))) return false;
    if (power) {
      if (any(both(some, less(extent, as_floats(ints(0x00800000)))))) return false;
      const Ints exponent = add(shift_right(magnitudes, 23), ints(power_bias - 127));
      Ints code = select(some, exponent, ints(s.spec.scale->bias));
      code = select(less(code, no_ints()), no_ints(), code);
      code = select(less(ints(254), code), ints(254), code);
      store_low_bytes(static_cast<uint8_t*>(s.scale.data) + block, code);
      return true;
    }
    const Floats v = div(extent, floats(unit_extent));
    if (s.scale.dtype != DType::kF32) return false;
    lowbit::LOWBIT_ISA_NAMESPACE::store(static_cast<float*>(s.scale.data) + block,
                                        select(equal(v, no_floats()), floats(1.0f), v));
    return true;
  }

  // False when it fails.
  bool store(const Extremes& e, int64_t block) const {
    if (e.magnitude >= kInfinity) return false;
    const float extent = s.asymmetric ? e.high - e.low : as_float(e.magnitude);
    float v = 0;
    if (power) {
      if (is_inf(extent)) return false;
      const int code = extent == 0 ? s.spec.scale->bias : floor_log2(extent) + power_bias;
      const auto byte = static_cast<uint8_t>(code < 0 ? 0 : code > 254 ? 254 : code);
      static_cast<uint8_t*>(s.scale.data)[block] = byte;
      v = (byte == 0 ? as_float(0x00400000) : as_float(static_cast<uint32_t>(byte) << 23)) * s.spec.unit;
    } else {
      v = extent / unit_extent;
      if (s.scale.dtype == DType::kF32) {
        if (v == 0) v = 1.0f;
        static_cast<float*>(s.scale.data)[block] = v;
      } else {
        v = stored_scale(v, s.scale.dtype);
        store_as(s.scale.data, s.scale.dtype, block, 1, floats(v));
      }
      if (is_inf(v)) return false;
    }
    if (s.asymmetric) {
      const float zero = v == 0 ? 0.0f : std::min((0.0f - e.low) / v, unit_extent);
      static_cast<uint8_t*>(s.zero.data)[block] = static_cast<uint8_t>(_mm_cvtss_si32(_mm_set_ss(zero)));
    }
    return true;
  }
};

// Codes of t[0 .. n), n <= 512, as bytes.
template <class Encoder, bool kZero, bool kRandom>
void encode_run(const Encoder& encoder, const float* t, int64_t n, const Steps& s, const uint16_t* random,
                uint8_t* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats scale = load(s.scale + i * s.scale_step);
    Floats y = keep(differ(scale, no_floats()), div(load(t + i, n - i), scale));
    if (kZero) y = add(y, load(s.zero + i * s.zero_step));
    Ints code;
    if constexpr (kRandom) {
      code = encoder.stochastic(y, widen(load_halves(random + i)));
    } else {
      code = encoder.nearest(y);
    }
    store_low_bytes(out + i, n - i, code);
  }
}

// The same of whole chunks whose blocks are whole vectors, the scales made of these values. Division is by the
// reciprocal with two corrections, the last of which makes the rounded quotient (Markstein 1990) of all that matter:
// scales lie within 2^-60 and 2^60, so what it would round else is below 2^-36 and no code of its own.
template <class Encoder, bool kZero, bool kRandom>
void encode_blocks(const Encoder& encoder, const float* t, int64_t n, const BlockRun& scale, const float* inverse,
                   const BlockRun& zero, const uint16_t* random, const Ahead& ahead, uint8_t* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    if (ahead.data) _mm_prefetch(ahead.data + i * ahead.size, _MM_HINT_T0);
    const int64_t block = scale.index(i);
    const Floats s = floats(scale.values[block]), by = floats(inverse[block]), x = load(t + i);
    Floats y = mul(x, by);
    y = fma(fnma(y, s, x), by, y);
    y = fma(fnma(y, s, x), by, y);
    y = as_floats(bit_or(as_ints(y), bit_and(as_ints(x), ints(INT32_MIN))));  // -0 stays so
    if (kZero) y = add(y, floats(zero.values[zero.index(i)]));
    Ints code;
    if constexpr (kRandom) {
      code = encoder.stochastic(y, widen(load_halves(random + i)));
    } else {
      code = encoder.nearest(y);
    }
    store_low_bytes(out + i, code);
  }
}

// The reciprocals of scales, 0 for 0. False when one is not within 2^-60 and 2^60.
bool invert(const float* scale, int64_t count, float* out) {
  Mask bad = none();
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats s = load(scale + i, count - i), a = abs(s);
    const Mask some = less(no_floats(), a);
    bad = either(bad, both(some, either(less(a, floats(0x1p-60f)), less(floats(0x1p60f), a))));
    store(out + i, count - i, keep(some, div(floats(1.0f), s)));
  }
  return !any(bad);
}

struct Job {
  const QuantizeArgs& a;
  Codes codes;
  Canonical kind;
  bool fused;  // a row's scales are made with its codes
  bool quick;  // encode_blocks serves
  BlockValues scale, zero, second;

  explicit Job(const QuantizeArgs& args) : a(args) {
    const Spec& spec = a.scaling.spec;
    const ElementFormat& f = *spec.element;
    codes.data = a.codes;
    codes.format = &f;
    codes.layout = a.layout;
    codes.rows = a.rows;
    codes.cols = a.cols;
    kind = layout_kind(f, a.layout);
    codes.row_stride = kind == Canonical::kPlanes    ? (a.cols + 31) / 32
                       : kind == Canonical::kPacked6 ? (a.cols + 3) / 4 * 3
                       : kind == Canonical::kPacked4 ? (a.cols + 1) / 2
                                                     : a.cols;
    codes.plane_stride = codes.row_stride * a.rows;
    scale = a.scale;
    zero = a.zero;
    if (a.scaling.scale.data != nullptr) {
      scale = scale_view(a.scaling, &second);
      zero = zero_view(a.scaling);
    }
    fused = a.scaling.scale.data != nullptr && spec.block.rows == 1 &&
            (spec.scale == nullptr || (spec.scale->specials == kPower && !spec.scale_has_scale));
    const int64_t wide = scale.block.cols;
    quick = a.scaling.scale.data != nullptr && (wide == 0 || (wide % kLanes == 0 && wide <= kBlock * kBlock)) &&
            (wide & (wide - 1)) == 0 && f.bits <= 8 && (f.kind != Kind::kFloat || f.bias + f.mantissa <= 19);
  }
};

// The codes of row r. False when a value is not finite (looked at only where no scale was made from them).
template <class Encoder, bool kRandom>
bool encode_row(const Job& job, const Encoder& encoder, Row* row, Spread* scale, Spread* zero, int64_t r) {
  const QuantizeArgs& a = job.a;
  static const float kOne[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};  // kLanes at most
  alignas(64) uint8_t encoded[kBlock];
  float inverse[kBlock];
  RandomRun random;
  Extremes seen;
  for (int64_t c = 0; c < a.cols; c += kBlock) {
    const int64_t n = std::min(kBlock, a.cols - c);
    int64_t left = 0;
    const float* t = row->at(r, c, &left);
    const Ahead ahead = row->ahead(r, c);
    if (!a.scaling.scale.data) seen.see<false>(t, n);
    const uint16_t* bits =
        kRandom ? random.fill(a.random, static_cast<uint64_t>((a.first_row + r) * a.cols + c), n) : nullptr;
    const bool plain = a.layout == Layout::kPlain;
    uint8_t* out = plain ? static_cast<uint8_t*>(a.codes) + r * a.cols + c : encoded;
    bool done = false;
    if (job.quick && n % kChunk == 0) {
      const BlockRun blocks = scale->blocks(r, c, n);
      done = invert(blocks.values, blocks.count, inverse);
      if (done && job.zero.data != nullptr) {
        encode_blocks<Encoder, true, kRandom>(encoder, t, n, blocks, inverse, zero->blocks(r, c, n), bits, ahead, out);
      } else if (done) {
        encode_blocks<Encoder, false, kRandom>(encoder, t, n, blocks, inverse, blocks, bits, ahead, out);
      }
    }
    if (!done) {
      Steps s = {kOne, nullptr, 0, 0};
      if (job.scale.data != nullptr) s.scale = scale->at(r, c, n, &s.scale_step);
      if (job.zero.data != nullptr) s.zero = zero->at(r, c, n, &s.zero_step);
      if (s.zero != nullptr) {
        encode_run<Encoder, true, kRandom>(encoder, t, n, s, bits, out);
      } else {
        encode_run<Encoder, false, kRandom>(encoder, t, n, s, bits, out);
      }
    }
    if (plain) continue;
    Run v;
    for (int i = 0; i < kChunks; ++i) {
      v[i] = i * kChunk < n ? first_bytes(load_ints(encoded + i * kChunk), n - i * kChunk) : no_ints();
    }
    store_run(job.codes, job.kind, r, c, v);
  }
  return seen.magnitude < kInfinity;
}

// Calls body(magnitudes, first block) for kLanes blocks of `wide` columns at a time, as far as they lie together in a
// row; returns the columns that it went through. body returns false to end.
template <class F>
int64_t by_lanes(Row* row, int64_t r, int64_t cols, int64_t wide, const F& body) {
  if (wide % kLanes != 0) return 0;
  int64_t c = 0;
  for (; cols - c >= wide * kLanes; c += wide * kLanes) {
    int64_t n = 0;
    const float* t = row->at(r, c, &n);
    if (n < wide * kLanes || !body(block_magnitudes(t, wide / kLanes), c / wide)) break;
  }
  return c;
}

template <bool kRange>
bool scale_row(const Job& job, const BlockScaler& scaler, Row* row, int64_t r) {
  const int64_t cols = job.a.cols, wide = job.a.scaling.spec.block.cols == 0 ? cols : job.a.scaling.spec.block.cols;
  int64_t block = r * job.a.scaling.scale.cols, done = 0;
  if constexpr (!kRange) {
    done = by_lanes(row, r, cols, wide, [&](Ints m, int64_t i) { return scaler.store(m, block + i); });
    block += done / wide;
  }
  for (int64_t c = done; c < cols; c += wide, ++block) {
    Extremes e;
    see_columns<kRange>(row, r, c, std::min(c + wide, cols), &e);
    if (!scaler.store(e, block)) return false;
  }
  return true;
}

int64_t row_grain(int64_t cols) { return 1 + 65536 / (cols + 1); }

template <class Encoder, bool kRandom>
bool quantize_rows(const Job& job, const Encoder& encoder, const Parallel& parallel) {
  std::atomic<bool> good{true};
  const BlockScaler scaler(job.a.scaling);
  parallel(job.a.rows, row_grain(job.a.cols), [&](int64_t begin, int64_t end) {
    Row row(job.a);
    Spread scale(job.scale), zero(job.zero);
    bool fine = true;
    for (int64_t r = begin; r < end && fine; ++r) {
      if (job.fused) {
        fine =
            job.a.scaling.asymmetric ? scale_row<true>(job, scaler, &row, r) : scale_row<false>(job, scaler, &row, r);
      }
      fine = fine && encode_row<Encoder, kRandom>(job, encoder, &row, &scale, &zero, r);
    }
    if (!fine) good.store(false, std::memory_order_relaxed);
  });
  return good.load();
}

// Zeroed floats. (Not a std::vector: its code would be merged with that of files built for other processors.)
class FloatArray {
 public:
  explicit FloatArray(int64_t n) : data_(new (std::nothrow) float[static_cast<size_t>(n) + 1]()) {}
  ~FloatArray() { delete[] data_; }
  FloatArray(const FloatArray&) = delete;
  FloatArray& operator=(const FloatArray&) = delete;

  explicit operator bool() const { return data_ != nullptr; }
  float* get() const { return data_; }
  float& operator[](int64_t i) const { return data_[i]; }

 private:
  float* data_;
};

// Extents of all blocks, for scales that no single row tells. `of_rows` and `low_of_rows` are as large as if every row
// had blocks of its own: rows are the tasks, so that one block for all of the matrix is not one thread's work. They may
// be `extent` and `low` where every row has. False when a value is not finite.
bool extents(const QuantizeArgs& a, const FloatArray& of_rows, const FloatArray& low_of_rows, const FloatArray& extent,
             const FloatArray& low, const Parallel& parallel) {
  const BlockStore& s = a.scaling.scale;
  const Block block = a.scaling.spec.block;
  const bool range = a.scaling.asymmetric;
  const int64_t wide = block.cols == 0 ? a.cols : block.cols;
  std::atomic<bool> good{true};
  parallel(a.rows, row_grain(a.cols), [&](int64_t begin, int64_t end) {
    Row row(a);
    for (int64_t r = begin; r < end; ++r) {
      int64_t i = r * s.cols, c = 0;
      if (!range) {
        c = by_lanes(&row, r, a.cols, wide, [&](Ints m, int64_t block) {
          if (any(less(ints(kInfinity - 1), m))) return false;
          store(of_rows.get() + i + block, as_floats(m));
          return true;
        });
        i += c / wide;
      }
      for (; c < a.cols; c += wide, ++i) {
        Extremes e;
        range ? see_columns<true>(&row, r, c, std::min(c + wide, a.cols), &e)
              : see_columns<false>(&row, r, c, std::min(c + wide, a.cols), &e);
        if (e.magnitude >= kInfinity) good.store(false, std::memory_order_relaxed);
        of_rows[i] = range ? e.high : as_float(e.magnitude);
        if (range) low_of_rows[i] = e.low;
      }
    }
  });
  if (!good.load()) return false;
  for (int64_t r = 0; extent.get() != of_rows.get() && r < a.rows; ++r) {
    const int64_t to = (block.rows == 0 ? 0 : r / block.rows) * s.cols;
    for (int64_t j = 0; j < s.cols; ++j) {
      extent[to + j] = std::max(extent[to + j], of_rows[r * s.cols + j]);
      if (range) low[to + j] = std::min(low[to + j], low_of_rows[r * s.cols + j]);
    }
  }
  for (int64_t i = 0; range && i < s.rows * s.cols; ++i) extent[i] -= low[i];
  return true;
}

// Whether two_level() makes the scales: coded in 8-bit floats, under one scale for the tensor (nvfp4, nvint4).
bool is_two_level(const Scaling& s) {
  const ElementFormat* f = s.spec.scale;
  return s.spec.scale_has_scale && s.spec.scale_block.rows == 0 && s.spec.scale_block.cols == 0 && !s.asymmetric &&
         f->kind == Kind::kFloat && f->bits == 8 && f->specials != kPower;
}

// scaling.h, kTwoLevel. False when the scale of scales overflows.
bool two_level(const Scaling& s, const float* extent, const Parallel& parallel) {
  const ElementFormat& f = *s.spec.scale;
  const FloatEncoder encoder(f);
  const int64_t count = s.scale.rows * s.scale.cols;
  Extremes e;
  e.see<false>(extent, count);
  const float unit_extent = extent_of_unit_scale(s);
  const float second = stored_scale(as_float(e.magnitude) / (unit_extent * first_of(encoder.largest)), s.scale2.dtype);
  if (is_inf(second)) return false;
  store_as(s.scale2.data, s.scale2.dtype, 0, 1, floats(second));
  const Floats per = floats(unit_extent * second);
  parallel(count, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const Floats v = load(extent + i, end - i);
      const Mask some = less(no_floats(), v);
      const Ints code = encoder.nearest(min(keep(some, div(v, per)), encoder.largest));
      // never 0 for a block that is not all zeros: code 1 is the least positive value
      const Ints least = select(some, max_unsigned(code, ints(1)), code);
      store_low_bytes(static_cast<uint8_t*>(s.scale.data) + i, end - i, least);
    }
  });
  return true;
}

template <class Encoder>
bool quantize_with(const Job& job, const Encoder& encoder, const Parallel& parallel) {
  return job.a.stochastic ? quantize_rows<Encoder, true>(job, encoder, parallel)
                          : quantize_rows<Encoder, false>(job, encoder, parallel);
}

// Whether this file has an encoder for what is asked.
bool has_encoder(const QuantizeArgs& a) {
  const ElementFormat& f = *a.scaling.spec.element;
  if (f.kind == Kind::kInt) return f.rule != kComplex;
  if (f.kind == Kind::kFloat) return f.specials != kPower;
  return true;
}

void make_steps(const ElementFormat& f, const float* codebook, TableSteps* t) {
  ref::decode_table(f, codebook, t->values);
  const int count = 1 << f.bits;
  for (int i = 0; i < 256; ++i) {
    t->middles[i] = t->above[i] = INFINITY;
    t->per_step[i] = 0;
    if (i + 1 >= count) continue;
    const double low = t->values[i], high = t->values[i + 1], middle = (low + high) * 0.5;
    auto m = static_cast<float>(middle);
    if (static_cast<double>(m) > middle) m = nextafterf(m, -INFINITY);
    t->middles[i] = m;
    t->above[i] = t->values[i + 1];
    t->per_step[i] = 65536.0 / (high - low);
  }
}

}  // namespace

Status quantize(const QuantizeArgs& a, const Parallel& parallel) {
  if (!has_encoder(a)) return ref::quantize(a, parallel);
  const Job job(a);
  if (!job.fused && a.scaling.scale.data != nullptr) {
    const int64_t blocks = a.scaling.scale.rows * a.scaling.scale.cols, of_rows = a.rows * a.scaling.scale.cols;
    const bool range = a.scaling.asymmetric;
    const int64_t shared = a.scaling.spec.block.rows == 1 ? 0 : blocks;
    const FloatArray high(of_rows), low(range ? of_rows : 0), most(shared), lowest(range ? shared : 0);
    const FloatArray &extent = shared ? most : high, &least = shared ? lowest : low;
    if (!high || !low || !most || !lowest) return Status(Code::kOutOfMemory, "");
    if (!extents(a, high, low, extent, least, parallel)) return ref::quantize(a, parallel);
    if (is_two_level(a.scaling)) {
      if (!two_level(a.scaling, extent.get(), parallel)) return ref::quantize(a, parallel);
    } else {
      LOWBIT_RETURN_IF_ERROR(make_scales(a.scaling, extent.get(), least.get(), parallel));
    }
  }
  const ElementFormat& f = *a.scaling.spec.element;
  bool good = true;
  if (f.kind == Kind::kInt && f.rule == kBipolar) {
    good = quantize_with(job, BipolarEncoder(f), parallel);
  } else if (f.kind == Kind::kInt) {
    good = quantize_with(job, IntEncoder(f), parallel);
  } else if (f.kind == Kind::kFloat) {
    good = quantize_with(job, FloatEncoder(f), parallel);
  } else {
    TableSteps steps;
    make_steps(f, a.scaling.codebook, &steps);
    good = quantize_with(job, TableEncoder(f, steps), parallel);
  }
  if (!good) return ref::quantize(a, parallel);
  cpu::ran(LOWBIT_KERNEL("quantize"));
  return Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
