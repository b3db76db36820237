// The front door of the GEMM families on the CPU: which family serves a pair of operands, activations quantized on the
// way, and many experts at once.
#pragma once

#include <memory>

#include "common/parallel.h"
#include "common/spec.h"
#include "ref/gemm_args.h"

namespace lowbit::cpu {

enum class Family : uint8_t { kBitplaneGemm, kDequantGemm, kScaledGemm };

// The family of a product, from formats and layout alone: floats (x_format == nullptr) go to dequant_gemm; two integer
// formats to bitplane_gemm when x comes as planes or w has at most 2 bits; every other pair of codes to scaled_gemm.
LOWBIT_EXPORT Family family_of(const ElementFormat* x_format, Layout x_layout, const ElementFormat& w_format);
LOWBIT_EXPORT const char* name_of(Family family);

// The families through the kernel table.
Status run(Family family, const GemmArgs& args, const Parallel& parallel);
Status dequant_gemm_input_grad(const GemmArgs& args, const Parallel& parallel);

// Activations quantized for one call: plain codes, their scales and zero points. At most the size of x.
struct QuantizedRows {
  QMatrix matrix;
  BlockValues second;
  std::unique_ptr<char[]> codes, scale, scale2, zero;
};

// Quantizes x in the format `spec`: unsigned integers with zero points, others symmetric; given scales (and zero
// points) are used as they are. `op` opens error sentences.
Status quantize_rows(const char* op, const Spec& spec, const Matrix& x, const BlockValues& scale,
                     const BlockValues& zero, const Parallel& parallel, QuantizedRows* out);

// Rows [m0, m1) of the activations and of out; scales of x must have one row, or one for each row of x. `x` and
// `second` are where the cut codes are kept.
GemmArgs rows_of(const GemmArgs& args, int64_t m0, int64_t m1, QMatrix* x, BlockValues* second);

// Many products in one parallel region: expert e is args[e]; each is cut into tiles of columns of out by shape alone.
Status grouped(Family family, const GemmArgs* args, int64_t count, const Parallel& parallel);
Status grouped_input_grad(const GemmArgs* args, int64_t count, const Parallel& parallel);

}  // namespace lowbit::cpu
