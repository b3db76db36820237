// Tensors and format strings of an op call, checked and turned into the views that the kernels take. Every check that
// can fail stands before anything is written; each raises one sentence (common/status.h).
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/qmatrix.h"

namespace lowbit::bind {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptTensor = std::optional<Tensor>;

// Raises the Status as a plain C++ exception: kInvalidArgument -> std::invalid_argument (ValueError in Python),
// kOutOfMemory -> std::bad_alloc, kUnsupported -> std::runtime_error. Returns when ok.
void check(const Status& status);

// PyTorch's own thread pool.
Parallel torch_parallel();

// "[2, 3]" for error sentences.
std::string shape(const Tensor& t);
std::string dtype_name(ScalarType t);

// Raises unless `t` lives on the device that this library serves (backend.h).
void check_device(const char* op, const char* argument, const Tensor& t);

// The float dtype of an output: `asked` when given (float32, bfloat16 or float16), else `fallback`.
DType out_dtype(const char* op, std::optional<ScalarType> asked, DType fallback);
ScalarType scalar_type(DType t);
// The DType of a float32 / bfloat16 / float16 tensor; raises for others.
DType float_dtype(const char* op, const char* argument, const Tensor& t);
bool is_float(const Tensor& t);  // one of those three
// The DType of a tensor of any dtype that this library reads; bytes of other dtypes are kU8.
DType any_dtype(const Tensor& t);

// A new contiguous tensor on that device.
Tensor empty(std::initializer_list<int64_t> sizes, ScalarType dtype);
Tensor empty(const std::vector<int64_t>& sizes, ScalarType dtype);

// `t` as rows x last dimension. Leading dimensions are collapsed without a copy where the strides allow it, else `hold`
// keeps a contiguous copy alive. A 1-d tensor is one row.
Matrix rows_of(const char* op, const char* argument, const Tensor& t, Tensor* hold);
// The same for an output, which may not be copied: raises when it overlaps itself or cannot be collapsed.
Matrix out_rows_of(const char* op, const char* argument, const Tensor& t);
// Raises when the memory of `out` overlaps that of `in`.
void check_no_overlap(const char* op, const char* out_name, const Tensor& out, const char* in_name, const Tensor& in);

// What a packed-matrix argument is made of, kept alive as long as the views.
struct Hold {
  Tensor codes;
  OptTensor scale, zero, scale2, table;
  BlockValues second;
};

// The arguments that describe one quantized matrix.
struct QArgs {
  const char* op;
  const char* name;  // "w" or "x"
  const Tensor& codes;
  const OptTensor& scale;
  const OptTensor& zero;
  const OptTensor& scale2;
  const OptTensor& table;
  std::string_view format;
  bool only = false;  // the op's one matrix: its arguments are called scale, zero, ... and not w_scale, w_zero, ...

  std::string argument(const char* part) const { return only ? part : std::string(name) + "_" + part; }
};

// One matrix, or `experts` of them when the tensors carry a leading expert dimension.
struct QView {
  Spec spec;
  QMatrix matrix;  // of expert 0
  int64_t experts = 1;
  // bytes from an expert to the next: codes, scales, scales of scales, zeros
  int64_t codes_step = 0, scale_step = 0, scale2_step = 0, zero_step = 0;

  // The matrix of expert `e`; `second` is where its second-level scales are written (QMatrix points there).
  QMatrix expert(int64_t e, BlockValues* second) const;
};

// Checks and views a quantized matrix of `cols` columns. Its rows are those of the canonical or plain codes; of
// prepacked codes those of the scale. `with_experts`: a leading dimension of experts. `code_cols`: columns of the codes
// themselves, where some groups lie in another tensor. Tensors that cannot be read in place are copied into `hold`,
// which must outlive the view.
QView quantized(const QArgs& args, int64_t cols, bool with_experts, Hold* hold, int64_t code_cols = -1);

// The scales, zero points and scales of scales of a rows x cols matrix alone; `view->spec` is parsed already and
// `args.codes` not looked at.
void block_values(const QArgs& args, int64_t rows, int64_t cols, bool with_experts, Hold* hold, QView* view);

// One value per block of a rows x cols matrix:
//   [rows / block rows, cols / block cols] (rounded up), of `format` codes or floats (zero: or int32, int8, uint8)
//   [rows / block rows]                    where there is one block along K
//   one element                            for all
// under `lead` (0 or 1) leading dimensions, of which the view is the first matrix.
BlockValues values_view(const char* op, const std::string& name, const Tensor& t, const ElementFormat* format,
                        Block block, int64_t rows, int64_t cols, int64_t lead, bool zero, Tensor* hold);

// The rank that codes of `f` have in layout `layout` without an expert dimension (3 for planes and tiles, else 2).
int64_t codes_rank(const ElementFormat& f, Layout layout);

// The layout of a code tensor: `spec.layout`, or kPlain where an int8/uint8 tensor holds a format whose canonical
// layout is planes.
Layout layout_of(const Spec& spec, const Tensor& codes);

// Raises where tiles of `layout` would not tell how many rows they hold: they are whole sixteens, and a scale that
// several rows share does not say it either.
void check_rows_of_tiles(const char* op, const char* argument, const Spec& spec, Layout layout, int64_t rows);

// Views `t` as codes of `cols` columns under `lead` leading dimensions, of which the view is the first matrix; rows are
// unknown for tiles (0). Copied into `hold` when the last dimension is not contiguous.
Codes codes_view(const char* op, const std::string& name, const Tensor& t, const ElementFormat& f, Layout layout,
                 int64_t cols, int64_t lead, Tensor* hold);

// The float32 values of a codebook format, checked, kept alive by `hold`; nullptr for other formats.
const float* codebook_of(const char* op, const std::string& name, const ElementFormat& f, const OptTensor& table,
                         OptTensor* hold);

// seed: int64[2].
struct Seed {
  uint64_t seed, offset;
};
Seed seed_of(const char* op, const Tensor& seed);

}  // namespace lowbit::bind
