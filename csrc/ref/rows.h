// One operand of a GEMM read row by row: a dense matrix, or codes in any layout, of mixed widths, or complex. Complex
// weights read as the real matrix of gemm_args.h.
#pragma once

#include <cstdint>
#include <vector>

#include "common/qmatrix.h"

namespace lowbit::ref {

// Columns [begin, end) of `codes`, as they lie in memory.
void read_codes(const Codes& codes, int64_t r, int64_t begin, int64_t end, uint8_t* out);

class Rows {
 public:
  explicit Rows(const Matrix& dense) : dense_(dense), rows_(dense.rows), cols_(dense.cols) {}
  explicit Rows(const QMatrix& q);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const QMatrix& matrix() const { return *q_; }
  bool quantized() const { return q_ != nullptr; }

  // Adds the columns at which a segment of this operand ends to `ends` (unsorted).
  void add_ends(std::vector<int64_t>* ends) const;

  // Columns [begin, end) of row r: value without scale and zero point; value * 2^shift (integer formats); the code
  // (complex: the two's complement of -1, 0, +1 on 2 bits).
  void values(int64_t r, int64_t begin, int64_t end, float* out) const;
  void integers(int64_t r, int64_t begin, int64_t end, int16_t* out) const;
  void codes(int64_t r, int64_t begin, int64_t end, uint8_t* out) const;

  // The scale and the zero point of element (r, c), in units of the value; 1 and 0 where there is none.
  float scale(int64_t r, int64_t c) const;
  float zero(int64_t r, int64_t c) const;
  bool has_float_zero() const;
  // A zero point that is an integer; 0 where it is absent or a float.
  int64_t integer_zero(int64_t r, int64_t c) const;
  bool scale_changes_along_columns() const { return q_ != nullptr && q_->scale && q_->scale.block.cols != 0; }
  int shift() const { return shift_; }

  // scale * (value - zero), one element.
  float at(int64_t r, int64_t c) const;

 private:
  struct Table {
    float value[256];
    int16_t integer[256];
    uint8_t code[256];
  };
  // Columns [begin, end) are columns first ... of `codes`.
  struct Piece {
    int64_t begin, end;
    const Codes* codes;
    int64_t first;
    int table;
  };

  template <class T>
  void read(int64_t r, int64_t begin, int64_t end, T* out) const;

  Matrix dense_;
  const QMatrix* q_ = nullptr;
  int64_t rows_ = 0, cols_ = 0;
  bool complex_ = false;
  int shift_ = 0;
  std::vector<Piece> pieces_;
  std::vector<Table> tables_;
};

}  // namespace lowbit::ref
