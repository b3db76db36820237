#include "ref/hadamard.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <string>

namespace lowbit {

Status check_hadamard(const HadamardArgs& args, HadamardSize* size) {
  *size = hadamard_size(args.block);
  if (!size->base) {
    int64_t below = std::min(args.block - 1, kMaxHadamard), above = std::max<int64_t>(args.block + 1, 1);
    while (below > 0 && !hadamard_size(below).base) --below;
    while (above <= kMaxHadamard && !hadamard_size(above).base) ++above;
    std::string nearest = below > 0 ? std::to_string(below) : "";
    if (above <= kMaxHadamard) nearest += (nearest.empty() ? "" : " and ") + std::to_string(above);
    return invalid("hadamard: block must be m * 2^k of at most ", kMaxHadamard,
                   " with a known Hadamard matrix of order m", ", got ", args.block, "; the nearest sizes are ",
                   nearest);
  }
  if (args.x.cols % args.block) {
    return invalid("hadamard: x must have a multiple of block = ", args.block, " columns, got ", args.x.cols,
                   "; choose a block that divides them");
  }
  if (args.sign && args.sign_length != args.block && args.sign_length != args.x.cols) {
    return invalid("hadamard: sign must have ", args.block, " or ", args.x.cols, " elements (a block or a row), got ",
                   args.sign_length, "; take as many as block");
  }
  if (args.out.rows != args.x.rows || args.out.cols != args.x.cols) {
    return invalid("hadamard: out must have the shape of x, [", args.x.rows, ", ", args.x.cols, "], got [",
                   args.out.rows, ", ", args.out.cols, "]; make it with torch.empty_like(x)");
  }
  return Status();
}

namespace ref {
namespace {

void butterflies(float* v, int64_t n, int log2) {
  for (int64_t h = 1; h < int64_t{1} << log2; h *= 2) {
    for (int64_t i = 0; i < n; i += 2 * h) {
      for (int64_t j = i; j < i + h; ++j) {
        const float a = v[j], b = v[j + h];
        v[j] = a + b;
        v[j + h] = a - b;
      }
    }
  }
}

// out = (H_m (x) I) v for v of m rows of `cols`.
void multiply_base(const HadamardMatrix& h, bool transpose, const float* v, int64_t cols, float* out) {
  const int m = h.order;
  for (int i = 0; i < m; ++i) {
    float* sum = out + i * cols;
    std::fill(sum, sum + cols, 0.0f);
    for (int j = 0; j < m; ++j) {
      const float* row = v + j * cols;
      if (transpose ? h.negative(j, i) : h.negative(i, j)) {
        for (int64_t c = 0; c < cols; ++c) sum[c] -= row[c];
      } else {
        for (int64_t c = 0; c < cols; ++c) sum[c] += row[c];
      }
    }
  }
}

}  // namespace

Status hadamard(const HadamardArgs& args, const Parallel& parallel) {
  HadamardSize size;
  LOWBIT_RETURN_IF_ERROR(check_hadamard(args, &size));
  const HadamardMatrix& base = hadamard_matrix(size.base);
  const int64_t n = args.block, blocks = args.x.cols / n;
  std::atomic<bool> out_of_memory{false};
  parallel(args.x.rows * blocks, std::max<int64_t>(1, 32768 / n), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<float[]> workspace(new (std::nothrow) float[2 * n]);
    if (!workspace) {
      out_of_memory = true;
      return;
    }
    float* v = workspace.get();
    float* y = size.base == 1 ? v : v + n;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r = t / blocks, b = t % blocks;
      const float* sign = args.sign && args.sign_length != n ? args.sign + b * n : args.sign;
      const float* sign_in = args.transpose ? nullptr : sign;
      const float* sign_out = args.transpose ? sign : nullptr;
      for (int64_t j = 0; j < n; ++j) v[j] = args.x.at(r, b * n + j) * (sign_in ? sign_in[j] : 1.0f);
      butterflies(v, n, size.log2);
      if (size.base > 1) multiply_base(base, args.transpose, v, int64_t{1} << size.log2, y);
      for (int64_t j = 0; j < n; ++j) {
        args.out.set(r, b * n + j, y[j] * args.scale * (sign_out ? sign_out[j] : 1.0f));
      }
    }
  });
  return out_of_memory ? Status(Code::kOutOfMemory, "hadamard: no memory for the workspace of a block") : Status();
}

}  // namespace ref
}  // namespace lowbit
