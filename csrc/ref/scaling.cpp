#include "ref/scaling.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

namespace lowbit {
namespace {

bool is_power(const Spec& spec) { return spec.scale != nullptr && spec.scale->specials == kPower; }

// The code of the least positive value, -1 where there is none.
int least_positive(const ElementFormat& f) {
  int best = -1;
  for (int c = 0; c < f.codes(); ++c) {
    const float v = decode(f, static_cast<uint32_t>(c));
    if (v > 0 && std::isfinite(v) && (best < 0 || v < decode(f, static_cast<uint32_t>(best)))) best = c;
  }
  return best;
}

Codes codes_of(const BlockStore& store) {
  Codes c;
  c.data = store.data;
  c.format = store.format;
  c.rows = store.rows;
  c.cols = store.cols;
  c.row_stride = canonical_row(canonical(*store.format), store.cols);
  c.plane_stride = c.row_stride * store.rows;
  return c;
}

// The E8M0 code of kPowerFloor.
uint32_t power_floor(const ElementFormat& scale, float extent, float unit_extent) {
  if (extent == 0) return encode(scale, 1.0f);
  const int e = codec_detail::floor_log2(extent) - codec_detail::floor_log2(unit_extent) + scale.bias;
  return static_cast<uint32_t>(std::clamp(e, 0, static_cast<int>(max_code(scale))));
}

// Records the least index that any thread reports.
void report(std::atomic<int64_t>* first, int64_t index) {
  int64_t seen = first->load(std::memory_order_relaxed);
  while ((seen < 0 || index < seen) && !first->compare_exchange_weak(seen, index)) {
  }
}

Status overflow(const Scaling& scaling, const char* name, const BlockStore& store, int64_t index, float extent) {
  return invalid(scaling.op, ": ", scaling.argument, " must be small enough for its ", name, ", got a block of extent ",
                 extent, " at block (", index / store.cols, ", ", index % store.cols, "); ",
                 store.dtype == DType::kF16 ? "use float32 scales" : "scale it down");
}

// Scales of scales, kTwoLevel. Stores them and returns through `second` the view that reads them back.
Status make_second(const Scaling& scaling, const float* extent, const Parallel& parallel) {
  const BlockStore& s = scaling.scale;
  const Block block = scaling.spec.scale_block;
  const float unit_extent = extent_of_unit_scale(scaling) * scale_max(*scaling.spec.scale);
  const int64_t high = block.rows == 0 ? s.rows : block.rows, wide = block.cols == 0 ? s.cols : block.cols;
  std::atomic<int64_t> bad{-1};
  parallel(scaling.scale2.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * scaling.scale2.cols; i < end * scaling.scale2.cols; ++i) {
      const int64_t r0 = i / scaling.scale2.cols * high, c0 = i % scaling.scale2.cols * wide;
      float most = 0;
      for (int64_t r = r0; r < std::min(r0 + high, s.rows); ++r) {
        for (int64_t c = c0; c < std::min(c0 + wide, s.cols); ++c) most = std::max(most, extent[r * s.cols + c]);
      }
      const float v = stored_scale(most / unit_extent, scaling.scale2.dtype);
      if (!std::isfinite(v)) report(&bad, i);
      store_float(scaling.scale2.data, scaling.scale2.dtype, i, v);
    }
  });
  return bad < 0 ? Status() : overflow(scaling, "scale of scales", scaling.scale2, bad, INFINITY);
}

void store_codes(const Scaling& scaling, const float* extent, float unit_extent, const BlockValues& second,
                 const Parallel& parallel) {
  const BlockStore& s = scaling.scale;
  const ElementFormat& f = *s.format;
  const Canonical kind = canonical(f);
  const Codes view = codes_of(s);
  const int64_t storage = kind == Canonical::kPlanes ? 4 : 1;
  const int planes = kind == Canonical::kPlanes ? f.bits : 1;
  const auto least = static_cast<uint32_t>(least_positive(f));
  auto code_of = [&](float e, float per) -> uint32_t {
    if (is_power(scaling.spec)) return power_floor(f, e, unit_extent * scaling.spec.unit);
    if (e == 0) return encode(f, 0.0f);
    const uint32_t code = encode(f, std::min(e / per, scale_max(f)));
    return decode(f, code) > 0 ? code : least;
  };
  parallel(s.rows, 1 + 4096 / (s.cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int p = 0; p < planes; ++p) {  // codes are or-ed into zeros
        std::memset(static_cast<char*>(s.data) + (p * view.plane_stride + r * view.row_stride) * storage, 0,
                    static_cast<size_t>(view.row_stride * storage));
      }
      for (int64_t c = 0; c < s.cols; ++c) {
        const float per = second ? unit_extent * second.at(r, c) : unit_extent;
        canonical_put(kind, f.bits, s.data, view.row_stride, view.plane_stride, r, c,
                      code_of(extent[r * s.cols + c], per));
      }
    }
  });
}

}  // namespace

Status check_scaling(const Scaling& scaling) {
  const ElementFormat& f = *scaling.spec.element;
  if (scaling.asymmetric && !(f.is_int() && f.rule == kUnsigned)) {
    return invalid(scaling.op, ": asymmetric must be False for format ", f.name,
                   ", got True; zero points belong to unsigned integers, as in \"uint4:g64\"");
  }
  if (f.kind == Kind::kCodebook && scaling.codebook != nullptr) {
    for (int c = 0; c < f.codes(); ++c) {
      if (!std::isfinite(scaling.codebook[c]) || (c > 0 && scaling.codebook[c] < scaling.codebook[c - 1])) {
        return invalid(scaling.op, ": table must be finite and ascending, got ", scaling.codebook[c], " at position ",
                       c, "; sort it");
      }
    }
    if (scale_max(f, scaling.codebook) == 0) {
      return invalid(scaling.op, ": table must hold a value other than 0, got none; nothing could be scaled to it");
    }
  }
  if (scaling.spec.scale != nullptr && least_positive(*scaling.spec.scale) < 0) {
    return invalid(scaling.op, ": format must have a scale format with a positive value, got ",
                   scaling.spec.scale->name, "; use for instance \"uint4\"");
  }
  if (is_power(scaling.spec) && scaling.spec.scale_has_scale) {
    return invalid(scaling.op, ": format must not give ", scaling.spec.scale->name,
                   " scales a scale of their own, got one; ", "E8M0 spans the range of float32 alone");
  }
  if (f.is_complex() && scaling.spec.scale != nullptr) {
    return invalid(scaling.op, ": format must have float scales for ", f.name, ", got ", scaling.spec.scale->name,
                   " codes; write for instance \"complex2:row\"");
  }
  return Status();
}

float extent_of_unit_scale(const Scaling& scaling) {
  const ElementFormat& f = *scaling.spec.element;
  return scaling.asymmetric ? static_cast<float>((1 << f.bits) - 1) : scale_max(f, scaling.codebook);
}

float stored_scale(float s, DType dtype) {
  uint32_t cell = 0;
  store_float(&cell, dtype, 0, s);
  const float v = load_float(&cell, dtype, 0);
  return v == 0 ? 1.0f : v;
}

Status make_scales(const Scaling& scaling, const float* extent, const float* low, const Parallel& parallel) {
  const BlockStore& s = scaling.scale;
  const float unit_extent = extent_of_unit_scale(scaling);
  const int64_t count = s.rows * s.cols;
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(extent[i])) return overflow(scaling, "scale", s, i, extent[i]);
  }
  BlockValues second;
  if (scaling.spec.scale_has_scale) {
    LOWBIT_RETURN_IF_ERROR(make_second(scaling, extent, parallel));
    scale_view(scaling, &second);
  }
  if (s.format != nullptr) {
    store_codes(scaling, extent, unit_extent, second, parallel);
  } else {
    std::atomic<int64_t> bad{-1};
    parallel(count, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float v = stored_scale(extent[i] / unit_extent, s.dtype);
        if (!std::isfinite(v)) report(&bad, i);
        store_float(s.data, s.dtype, i, v);
      }
    });
    if (bad >= 0) return overflow(scaling, "scale", s, bad, extent[bad]);
  }
  if (scaling.zero) {
    BlockValues by_block = scale_view(scaling, &second);
    by_block.block = {1, 1};
    parallel(s.rows, 1 + 4096 / (s.cols + 1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * s.cols; i < end * s.cols; ++i) {
        const float v = by_block.at(i / s.cols, i % s.cols);
        static_cast<uint8_t*>(scaling.zero.data)[i] =
            static_cast<uint8_t>(encode(*scaling.spec.element, v == 0 ? 0.0f : -low[i] / v));
      }
    });
  }
  return Status();
}

void read_blocks(const BlockValues& v, int64_t r, int64_t first, int64_t count, float* out) {
  // decoding a float bit by bit is slow: all values of all formats, made once
  struct Values {
    float of[kFormatCount][256];
    Values() {
      for (int i = 0; i < kFormatCount; ++i) {
        for (int c = 0; c < 256; ++c) {
          const ElementFormat& f = kFormats[i];
          of[i][c] = c < f.codes() && f.kind != Kind::kCodebook ? decode(f, static_cast<uint32_t>(c)) : 0.0f;
        }
      }
    }
  };
  static const Values values;
  const int64_t i = v.block.rows == 0 ? 0 : r / v.block.rows;
  if (v.codes.format == nullptr) {
    for (int64_t j = 0; j < count; ++j)
      out[j] = load_float(v.data, v.dtype, i * v.row_stride + (first + j) * v.col_stride);
  } else {
    const float* table = values.of[v.codes.format - kFormats];
    if (v.codes.layout == Layout::kCanonical && canonical(*v.codes.format) == Canonical::kBytes) {
      const auto* row = static_cast<const uint8_t*>(v.codes.data) + i * v.codes.row_stride + first;
      for (int64_t j = 0; j < count; ++j) out[j] = table[row[j]];
    } else {
      for (int64_t j = 0; j < count; ++j) out[j] = table[v.codes.code(i, first + j)];
    }
  }
  if (v.second != nullptr) {
    for (int64_t j = first; j < first + count;) {
      const float second = v.second->at(i, j);
      const int64_t end = v.second->block_end(j, first + count);
      for (; j < end; ++j) out[j - first] *= second;
    }
  }
  for (int64_t j = 0; j < count && v.unit != 1.0f; ++j) out[j] *= v.unit;
}

BlockValues scale_view(const Scaling& scaling, BlockValues* second) {
  BlockValues v;
  v.data = scaling.scale.data;
  v.dtype = scaling.scale.dtype;
  v.row_stride = scaling.scale.cols;
  v.col_stride = 1;
  v.block = scaling.spec.block;
  v.unit = scaling.spec.unit;
  if (scaling.scale.format != nullptr) v.codes = codes_of(scaling.scale);
  if (scaling.scale2) {
    *second = BlockValues();
    second->data = scaling.scale2.data;
    second->dtype = scaling.scale2.dtype;
    second->row_stride = scaling.scale2.cols;
    second->col_stride = 1;
    second->block = scaling.spec.scale_block;
    v.second = second;
  }
  return v;
}

BlockValues zero_view(const Scaling& scaling) {
  BlockValues v;
  v.data = scaling.zero.data;
  v.dtype = scaling.zero.dtype;
  v.row_stride = scaling.zero.cols;
  v.col_stride = 1;
  v.block = scaling.spec.block;
  return v;
}

}  // namespace lowbit
