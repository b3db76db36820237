// Quantized matrices for the C entry points: flat mirrors of Codes, BlockValues and QMatrix (common/qmatrix.h) over
// device pointers, and what they become.
#pragma once

#include "cuda/c_api/entry.h"
#include "ref/gemm_args.h"

namespace lowbit::cuda {

struct CCodes {
  const void* data;
  const char* format;     // an element format
  const float* codebook;  // device, or null
  int64_t layout, rows, cols, row_stride, plane_stride;

  Status read(const char* op, Codes* codes) const {
    codes->data = data;
    codes->codebook = codebook;
    codes->layout = static_cast<Layout>(layout);
    codes->rows = rows;
    codes->cols = cols;
    codes->row_stride = row_stride;
    codes->plane_stride = plane_stride;
    return parse_element(op, "format", format, &codes->format);
  }
};

struct CBlockValues {
  const void* data;  // floats or integers; null: absent, or `codes`
  int64_t dtype;
  CCodes codes;  // of coded values; null format: not coded
  int64_t row_stride, col_stride, block_rows, block_cols;
  double unit;
  const CBlockValues* second;

  // `held` keeps the second level.
  Status read(const char* op, BlockValues* values, BlockValues* held) const {
    values->data = data;
    values->dtype = static_cast<DType>(dtype);
    if (codes.format != nullptr) {
      LOWBIT_RETURN_IF_ERROR(codes.read(op, &values->codes));
      values->data = codes.data;
    }
    values->row_stride = row_stride;
    values->col_stride = col_stride;
    values->block = {block_rows, block_cols};
    values->unit = static_cast<float>(unit);
    if (second == nullptr) return Status();
    values->second = held;
    return second->read(op, held, nullptr);
  }
};

struct CQuantized {
  CCodes codes;
  CBlockValues scale, scale_imaginary, zero;
  const int32_t *offsets, *cols;  // outliers, or null
  const void* values;
  int64_t values_dtype;
  CCodes high;  // the wide groups of mixed widths; null data: none
  const int32_t* high_groups;
  int64_t high_count, group, all_cols;
};

struct Quantized {
  QMatrix matrix;
  Codes high;
  BlockValues second, imaginary_second;

  Status read(const char* op, const CQuantized& c) {
    LOWBIT_RETURN_IF_ERROR(c.codes.read(op, &matrix.codes));
    LOWBIT_RETURN_IF_ERROR(c.scale.read(op, &matrix.scale, &second));
    LOWBIT_RETURN_IF_ERROR(c.scale_imaginary.read(op, &matrix.scale_imaginary, &imaginary_second));
    LOWBIT_RETURN_IF_ERROR(c.zero.read(op, &matrix.zero, nullptr));
    matrix.outliers = {c.offsets, c.cols, c.values, static_cast<DType>(c.values_dtype)};
    matrix.cols = c.all_cols;
    if (c.high.data == nullptr) return Status();
    LOWBIT_RETURN_IF_ERROR(c.high.read(op, &high));
    matrix.high = &high;
    matrix.high_groups = c.high_groups;
    matrix.high_count = c.high_count;
    matrix.group = c.group;
    return Status();
  }
};

}  // namespace lowbit::cuda
