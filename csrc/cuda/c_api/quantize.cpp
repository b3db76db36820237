// quantize, dequantize, stochastic_round, stochastic_round_update over device pointers.
#include "cuda/quantize.h"

#include "cuda/c_api/entry.h"
#include "cuda/stochastic_round.h"

using namespace lowbit;

namespace {

struct CQuantize {
  cuda::CMatrix x;  // complex2: rows x 2 cols
  const char* format;
  const float* codebook;  // device
  void* codes;
  cuda::CValues scale, scale2, zero;  // computed, or `given`
  int64_t rows, cols, given, asymmetric, stochastic, seed, offset, first_row, hadamard, plain;
};

// Block values that are given, as the caller of an op would have them.
struct Given {
  BlockValues values, second;

  void read(const CQuantize& a, const Spec& spec) {
    const int64_t rows = Block::count(a.rows, spec.block.rows), cols = Block::count(a.cols, spec.block.cols);
    Scaling s;
    s.spec = spec;
    s.scale = {a.scale.data, static_cast<DType>(a.scale.dtype), spec.scale, rows, cols};
    if (spec.scale_has_scale) {
      s.scale2 = {a.scale2.data, static_cast<DType>(a.scale2.dtype), nullptr, Block::count(rows, spec.scale_block.rows),
                  Block::count(cols, spec.scale_block.cols)};
    }
    values = scale_view(s, &second);
  }
};

Status fill(const CQuantize& c, QuantizeArgs* a, Given* given) {
  LOWBIT_RETURN_IF_ERROR(parse_spec("quantize", "format", c.format, &a->scaling.spec));
  const Spec& spec = a->scaling.spec;
  a->x = c.x.matrix();
  a->rows = c.rows;
  a->cols = c.cols;
  a->scaling.codebook = c.codebook;
  a->scaling.asymmetric = c.asymmetric != 0;
  const int64_t rows = Block::count(c.rows, spec.block.rows), cols = Block::count(c.cols, spec.block.cols);
  if (c.given) {
    given->read(c, spec);
    if (c.scale.data != nullptr) a->scale = given->values;
    if (c.zero.data != nullptr) {
      a->zero.data = c.zero.data;
      a->zero.dtype = static_cast<DType>(c.zero.dtype);
      a->zero.row_stride = cols;
      a->zero.col_stride = 1;
      a->zero.block = spec.block;
    }
  } else {
    a->scaling.scale = {c.scale.data, static_cast<DType>(c.scale.dtype), spec.scale, rows, cols};
    if (spec.scale_has_scale) {
      a->scaling.scale2 = {c.scale2.data, static_cast<DType>(c.scale2.dtype), nullptr,
                           Block::count(rows, spec.scale_block.rows), Block::count(cols, spec.scale_block.cols)};
    }
    if (c.asymmetric) a->scaling.zero = {c.zero.data, DType::kU8, nullptr, rows, cols};
  }
  a->stochastic = c.stochastic != 0;
  a->random = {static_cast<uint64_t>(c.seed), static_cast<uint64_t>(c.offset)};
  a->first_row = c.first_row;
  a->hadamard = c.hadamard;
  a->codes = c.codes;
  a->layout = c.plain ? Layout::kPlain : Layout::kCanonical;
  return Status();
}

// A weight as quantize makes it.
struct CWeight {
  const char* format;
  const float* codebook;
  void* codes;
  cuda::CValues scale, scale2, scale_imaginary, zero;
  int64_t rows, cols, plain;
};

struct Weight {
  Spec spec;
  QMatrix matrix;
  BlockValues second, imaginary_second;

  Status read(const char* op, const CWeight& c) {
    LOWBIT_RETURN_IF_ERROR(parse_spec(op, "format", c.format, &spec));
    const int64_t rows = Block::count(c.rows, spec.block.rows), cols = Block::count(c.cols, spec.block.cols);
    Codes& codes = matrix.codes;
    codes.data = c.codes;
    codes.format = spec.element;
    codes.codebook = c.codebook;
    codes.layout = c.plain ? Layout::kPlain : Layout::kCanonical;
    codes.rows = c.rows;
    codes.cols = matrix.cols = c.cols;
    codes.row_stride = c.plain ? c.cols : canonical_row(canonical(*spec.element), c.cols);
    codes.plane_stride = codes.row_stride * c.rows;
    Scaling s;
    s.spec = spec;
    s.scale = {c.scale.data, static_cast<DType>(c.scale.dtype), spec.scale, rows, cols};
    if (spec.scale_has_scale) {
      s.scale2 = {c.scale2.data, static_cast<DType>(c.scale2.dtype), nullptr, Block::count(rows, spec.scale_block.rows),
                  Block::count(cols, spec.scale_block.cols)};
    }
    if (c.scale.data != nullptr) matrix.scale = scale_view(s, &second);
    if (c.scale_imaginary.data != nullptr) {
      s.scale.data = c.scale_imaginary.data;
      matrix.scale_imaginary = scale_view(s, &imaginary_second);
    }
    if (c.zero.data != nullptr) {
      s.zero = {c.zero.data, static_cast<DType>(c.zero.dtype), nullptr, rows, cols};
      matrix.zero = zero_view(s);
    }
    return Status();
  }
};

struct CDequantize {
  CWeight w;
  const int64_t* ids;
  cuda::CMatrix out;
  // outliers, or null
  const int32_t *offsets, *cols;
  const void* values;
  int64_t values_dtype;
  // the wider columns of mixed widths, or null codes
  const char* high_format;
  void* high_codes;
  const int32_t* high_groups;
  int64_t high_count, high_cols, group;
};

struct CUpdate {
  CWeight w;
  cuda::CMatrix dw;
  cuda::CValues new_scale, new_zero;  // rescale
  int64_t seed, offset, first_row, rescale;
};

Status fill(const CUpdate& c, Weight* w, WeightUpdateArgs* a) {
  LOWBIT_RETURN_IF_ERROR(w->read("stochastic_round_update_", c.w));
  a->w = w->matrix;
  a->dw = c.dw.matrix();
  a->random = {static_cast<uint64_t>(c.seed), static_cast<uint64_t>(c.offset)};
  a->first_row = c.first_row;
  a->rescale = c.rescale != 0;
  a->scaling.op = "stochastic_round_update_";
  a->scaling.argument = "dw";
  a->scaling.spec = w->spec;
  a->scaling.asymmetric = c.w.zero.data != nullptr;
  const int64_t rows = Block::count(c.w.rows, w->spec.block.rows), cols = Block::count(c.w.cols, w->spec.block.cols);
  a->scaling.scale = {c.new_scale.data, static_cast<DType>(c.new_scale.dtype), nullptr, rows, cols};
  if (a->scaling.asymmetric) a->scaling.zero = {c.new_zero.data, DType::kU8, nullptr, rows, cols};
  return Status();
}

}  // namespace

extern "C" LOWBIT_EXPORT int64_t lowbit_cuda_quantize_workspace(const CQuantize* c) {
  QuantizeArgs a;
  Given given;
  return fill(*c, &a, &given).ok() ? cuda::quantize_workspace(a) : -1;
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_quantize(const CQuantize* c, const cuda::CCall* call, char* error,
                                                  int64_t size) {
  QuantizeArgs a;
  Given given;
  Status status = fill(*c, &a, &given);
  if (status.ok()) status = cuda::quantize(a, call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_dequantize(const CDequantize* c, const cuda::CCall* call, char* error,
                                                    int64_t size) {
  Weight w;
  DequantizeArgs a;
  Codes high;
  Status status = w.read("dequantize", c->w);
  if (status.ok()) {
    a.w = w.matrix;
    a.w.outliers = {c->offsets, c->cols, c->values, static_cast<DType>(c->values_dtype)};
    a.rows = c->out.rows;
    a.ids = c->ids;
    a.out = c->out.matrix();
  }
  if (status.ok() && c->high_codes != nullptr) {
    status = parse_element("dequantize", "high", c->high_format, &high.format);
    if (status.ok()) {
      high.data = c->high_codes;
      high.rows = c->w.rows;
      high.cols = c->high_cols;
      high.row_stride = canonical_row(canonical(*high.format), high.cols);
      high.plane_stride = high.row_stride * high.rows;
      a.w.codes.cols = c->w.cols - high.cols;
      a.w.codes.row_stride = canonical_row(canonical(*a.w.codes.format), a.w.codes.cols);
      a.w.codes.plane_stride = a.w.codes.row_stride * c->w.rows;
      a.w.high = &high;
      a.w.high_groups = c->high_groups;
      a.w.high_count = c->high_count;
      a.w.group = c->group;
    }
  }
  if (status.ok()) status = cuda::dequantize(a, call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_stochastic_round(const cuda::CMatrix* x, const cuda::CMatrix* out,
                                                          const char* format, int64_t seed, int64_t offset,
                                                          const cuda::CCall* call, char* error, int64_t size) {
  StochasticRoundArgs a;
  a.x = x->matrix();
  a.out = out->matrix();
  a.random = {static_cast<uint64_t>(seed), static_cast<uint64_t>(offset)};
  Status status;
  if (std::strcmp(format, kBFloat16.name) == 0) {
    a.format = &kBFloat16;
  } else if (std::strcmp(format, kFloat16.name) == 0) {
    a.format = &kFloat16;
  } else {
    status = parse_element("stochastic_round", "format", format, &a.format);
  }
  if (status.ok()) status = cuda::stochastic_round(a, call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int64_t lowbit_cuda_update_workspace(const CUpdate* c) {
  Weight w;
  WeightUpdateArgs a;
  return fill(*c, &w, &a).ok() ? cuda::stochastic_round_update_workspace(a) : -1;
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_update(const CUpdate* c, const cuda::CCall* call, char* error, int64_t size) {
  Weight w;
  WeightUpdateArgs a;
  Status status = fill(*c, &w, &a);
  if (status.ok()) status = cuda::stochastic_round_update(a, call->call());
  return cuda::answer(status, error, size);
}
