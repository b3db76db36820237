// The Walsh-Hadamard transform. A block of n = m * 2^k is m rows of 2^k: H_m across them, butterflies along the rows.
//
// Floors: a copy of x to out, and n log2(n) additions, two vectors of them a cycle. Beside the additions of the
// butterflies an element costs a shuffle for each stage within the lanes that no load does, the product with the scale,
// and in 16 bits four or five instructions of conversion. H_m adds about n (m / 4 + 3): 5 to 9 an element for m = 12,
// 20, 28, but 46 for m = 172 where log2(m) is 7.4, so that 11008 = 172 * 64 stays at a quarter of that floor.
//
// Passes over a block, all loads and stores of whole vectors; a set is 16 registers of neighbours, 256 with AVX-512 and
// 128 with AVX2, and s the log2 of that. The first pass reads x and does the stage of distance 1, the last one writes
// out, in order; sums between them stand in the workspace.
//
//   lanes  s stages on a set: those within the lanes by a shuffle and an fma(x, +-1, shuffled x), the others between
//          registers. Blocks of n <= 2^s are this pass alone, several to a set. The stage of distance 1, or of half a
//          vector, needs no shuffle where it is done as data is loaded: loads repeat either partner.
//   cross  up to 4 stages (16 rows in 16 registers) at a stride of 2^s, 2^(s + 4), ...
//   base   H_m over columns of one or two vectors: the 16 signed sums of every 4 rows stand in a table, an output adds
//          one of them for every 4 inputs (the method of four Russians); for m = 12, 20, 28 the matrix is a constant
//          and the sums stay in registers. It comes first: what it reads in m streams is asked for by prefetches while
//          the block before is finished, and what is written goes in order.
//
//   k <= s:      (base,) lanes                          k <= s + 4:  cross at 2^s, lanes; base, cross, lanes
//   above:       cross over up to 16 parts, then each part so
//
// Rows shorter than a vector (m > 1) go kLanes blocks at a time, transposed into a panel [n][kLanes]. Data whose
// columns are not neighbours, or whose dtype changes, is staged in fp32, kLanes rows at a time where the rows are
// neighbours. Large results that are not in place go past the caches. A product by +-1 is exact, so the fma rounds as
// an addition does.
#include "cpu/simd/hadamard.h"

#include <algorithm>
#include <atomic>

#include "cpu/dispatch.h"
#include "cpu/simd/hadamard_base.h"
#include "cpu/simd/hadamard_passes.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// ---- blocks

// What a call does, the same for all its blocks.
struct Plan {
  Base base;
  int log2 = 0;
  int64_t n = 1;
  bool transpose = false;
  float scale = 1.0f;
  bool stream = false;

  bool in_panels() const { return base.m > 1 && log2 < kLanesLog2; }
  bool in_runs() const { return base.m == 1 && log2 <= kSetLog2; }
};

// Up to kLanes pieces of rows, evenly spaced: one block each, or, for blocks of n <= kSet = 2^log2, a run of them.
struct Pieces {
  const char* x = nullptr;
  char* out = nullptr;
  Signs sign;
  int64_t x_step = 0, out_step = 0;  // bytes
  int64_t sign_step = 0;             // floats
  int64_t length = 0;
  int count = 0;

  const float* sign_of(int i) const { return sign.data ? sign.data + i * sign_step : nullptr; }
};

LOWBIT_INLINE void transpose(Floats (&v)[kLanes]) {
  Ints t[kLanes];
  LOWBIT_UNROLL
  for (int i = 0; i < kLanes; ++i) t[i] = as_ints(v[i]);
  transpose(t);
  LOWBIT_UNROLL
  for (int i = 0; i < kLanes; ++i) v[i] = as_floats(t[i]);
}

// kLanes blocks with m > 1 and rows below a vector as the lanes of a panel [n][kLanes]. Missing blocks repeat the last
// one.
template <DType In, DType Out>
void panel(const Plan& plan, const Pieces& pieces, float* workspace) {
  float* rows = workspace;
  float* base_space = workspace + plan.n * kLanes;
  Floats v[kLanes];
  for (int64_t j = 0; j < plan.n; j += kLanes) {
    const int64_t count = plan.n - j;
    for (int r = 0; r < kLanes; ++r) {
      const int i = std::min(r, pieces.count - 1);
      v[r] = load<In>(pieces.x + i * pieces.x_step, j, count);
      if (pieces.sign.data && !plan.transpose) v[r] = flip(v[r], load<DType::kF32>(pieces.sign_of(i), j, count));
    }
    transpose(v);
    for (int r = 0; r < kLanes && j + r < plan.n; ++r) store(rows + (j + r) * kLanes, v[r]);
  }
  for (int64_t j = 0; j < plan.n; j += int64_t{1} << plan.log2) {
    float* row = rows + j * kLanes;
    if (plan.log2 > 0) cross<DType::kF32, false>(row, row, kLanes, plan.log2, nullptr);
  }
  multiply_base<DType::kF32, false>(plan.base, rows, rows, kLanes << plan.log2, nullptr, base_space);
  const Floats factor = floats(plan.scale);
  for (int64_t j = 0; j < plan.n; j += kLanes) {
    const int64_t count = plan.n - j;
    for (int r = 0; r < kLanes; ++r) {
      v[r] = j + r < plan.n ? mul(load(rows + (j + r) * kLanes), factor) : no_floats();
    }
    transpose(v);
    for (int r = 0; r < pieces.count; ++r) {
      if (pieces.sign.data && plan.transpose) v[r] = flip(v[r], load<DType::kF32>(pieces.sign_of(r), j, count));
      store<Out>(pieces.out + r * pieces.out_step, j, v[r], count);
    }
  }
}

// One piece, not of the panel's kind. `next`: the one after it.
template <DType In, DType Out>
LOWBIT_INLINE void transform(const Plan& plan, const void* x, void* out, const char* next, int64_t length, Signs sign,
                             float* workspace) {
  constexpr int64_t kFirstCache = 16384;  // bytes of x that may lie there beside the sums
  using T = typename Raw<In>::type;
  const Signs none, sign_in = plan.transpose ? none : sign, sign_out = plan.transpose ? sign : none;
  const bool near = plan.n * static_cast<int64_t>(sizeof(T)) <= kFirstCache;
  const Finish finish = {sign_out, plan.scale, plan.stream, {next, kSet * sizeof(T), near}};
  if (plan.in_runs()) return lanes<In, Out, false>(x, out, length, plan.log2, sign_in, finish);
  if (plan.base.m == 1) return row<In, Out>(x, out, workspace, plan.log2, sign_in.data, finish);
  float* base_space = workspace + round_up(plan.n, kLanes);
  multiply_base<In, true>(plan.base, x, workspace, int64_t{1} << plan.log2, sign_in.data, base_space);
  rows_of_sums<Out>(workspace, out, plan.n, plan.log2, finish);
}

template <DType In, DType Out>
void transform_pieces(const Plan& plan, const Pieces& pieces, float* workspace) {
  if (plan.in_panels()) return panel<In, Out>(plan, pieces, workspace);
  for (int i = 0; i < pieces.count; ++i) {
    const char* x = pieces.x + i * pieces.x_step;
    transform<In, Out>(plan, x, pieces.out + i * pieces.out_step, x + pieces.x_step, pieces.length,
                       {pieces.sign_of(i), pieces.sign.step}, workspace);
  }
}

using Transform = void (*)(const Plan&, const Pieces&, float*);

// nullptr: through fp32 copies.
Transform transform_of(const Matrix& x, const Matrix& out) {
  if (x.dtype != out.dtype || x.col_stride != 1 || out.col_stride != 1) return nullptr;
  switch (x.dtype) {
    case DType::kF32: return transform_pieces<DType::kF32, DType::kF32>;
    case DType::kBF16: return transform_pieces<DType::kBF16, DType::kBF16>;
    default: return transform_pieces<DType::kF16, DType::kF16>;
  }
}

// ---- strides

// Copies `rows` <= kLanes rows of `cols` elements to fp32 rows `pitch` apart.
template <DType T>
void gather(const void* data, int64_t row_stride, int64_t col_stride, int rows, int64_t cols, float* out,
            int64_t pitch) {
  const auto* p = static_cast<const typename Raw<T>::type*>(data);
  for (int64_t j = 0; row_stride == 1 && j < cols; j += kLanes) {  // neighbours are rows: kLanes x kLanes at a time
    Floats v[kLanes];
    for (int c = 0; c < kLanes; ++c) {
      v[c] = j + c < cols ? load<T>(p, (j + c) * col_stride, rows) : no_floats();
    }
    transpose(v);
    for (int r = 0; r < rows; ++r) store<DType::kF32>(out, r * pitch + j, v[r], cols - j);
  }
  typename Raw<T>::type part[kLanes] = {};
  for (int r = 0; row_stride != 1 && r < rows; ++r) {
    for (int64_t j = 0; j < cols; j += kLanes) {
      const int64_t width = std::min<int64_t>(kLanes, cols - j);
      for (int64_t c = 0; c < width; ++c) part[c] = p[r * row_stride + (j + c) * col_stride];
      store<DType::kF32>(out, r * pitch + j, load<T>(part, 0), width);
    }
  }
}

// The inverse of gather.
template <DType T>
void scatter(const float* in, int64_t pitch, int rows, int64_t cols, void* data, int64_t row_stride,
             int64_t col_stride) {
  auto* p = static_cast<typename Raw<T>::type*>(data);
  for (int64_t j = 0; row_stride == 1 && j < cols; j += kLanes) {
    Floats v[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      v[r] = r < rows ? load<DType::kF32>(in, r * pitch + j, cols - j) : no_floats();
    }
    transpose(v);
    for (int c = 0; c < kLanes && j + c < cols; ++c) store<T>(p, (j + c) * col_stride, v[c], rows);
  }
  typename Raw<T>::type part[kLanes];
  for (int r = 0; row_stride != 1 && r < rows; ++r) {
    for (int64_t j = 0; j < cols; j += kLanes) {
      const int64_t width = std::min<int64_t>(kLanes, cols - j);
      store<T>(part, 0, load<DType::kF32>(in, r * pitch + j, width));
      for (int64_t c = 0; c < width; ++c) p[r * row_stride + (j + c) * col_stride] = part[c];
    }
  }
}

using Gather = decltype(&gather<DType::kF32>);
using Scatter = decltype(&scatter<DType::kF32>);

Gather gather_of(DType t) {
  return t == DType::kF32 ? gather<DType::kF32> : t == DType::kBF16 ? gather<DType::kBF16> : gather<DType::kF16>;
}
Scatter scatter_of(DType t) {
  return t == DType::kF32 ? scatter<DType::kF32> : t == DType::kBF16 ? scatter<DType::kBF16> : scatter<DType::kF16>;
}

// ---- the call

struct Workspace {
  explicit Workspace(int64_t floats) : data(static_cast<float*>(_mm_malloc(floats * 4 + 64, 64))) {}
  ~Workspace() { _mm_free(data); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  float* data;
};

int64_t bytes_of(DType t) { return t == DType::kF32 ? 4 : 2; }

// How the rows are cut, by shape alone: into pieces of `length`, and tasks of up to `batch` pieces, which lie down a
// column of pieces or along a row.
struct Cut {
  Matrix x, out;
  bool staged = false;
  bool down = false;
  int64_t length = 0;
  int64_t batch = 1;
  int64_t lines = 0;     // columns of pieces, or rows
  int64_t line = 0;      // pieces in one of them
  int64_t per_line = 0;  // tasks
};

Cut cut_of(const HadamardArgs& args, const Plan& plan, bool staged) {
  constexpr int64_t kRun = 8192, kStage = 131072;  // floats
  Cut cut;
  cut.x = args.x;
  cut.out = args.out;
  cut.staged = staged;
  const bool one_row = args.x.row_stride == args.x.cols && args.out.row_stride == args.x.cols;
  if (plan.in_runs() && !staged && one_row && (!args.sign || args.sign_length == plan.n)) {
    cut.x.cols = args.x.rows * args.x.cols;
    cut.x.rows = 1;
  }
  cut.length = plan.in_runs() ? std::min(cut.x.cols, kRun) : plan.n;
  const bool neighbours = staged && (args.x.row_stride == 1 || args.out.row_stride == 1);
  if (!plan.in_runs() || neighbours) {
    cut.batch = std::clamp<int64_t>((plan.in_panels() || neighbours ? kStage : kRun) / cut.length, 1, kLanes);
  }
  const int64_t per_row = (cut.x.cols + cut.length - 1) / cut.length;
  cut.down = neighbours || per_row == 1 || (plan.in_panels() && cut.x.rows >= per_row);
  cut.lines = cut.down ? per_row : cut.x.rows;
  cut.line = cut.down ? cut.x.rows : per_row;
  cut.per_line = (cut.line + cut.batch - 1) / cut.batch;
  return cut;
}

// Task `t` of a cut, without its signs.
Pieces pieces_of(const Cut& cut, int64_t t, int64_t* row, int64_t* col) {
  const int64_t line = t / cut.per_line, first = t % cut.per_line * cut.batch;
  *row = cut.down ? first : line;
  *col = (cut.down ? line : first) * cut.length;
  const int64_t row_step = cut.down ? 1 : 0, col_step = cut.down ? 0 : cut.length;
  const auto offset = [](const Matrix& m, int64_t r, int64_t c) {
    return (r * m.row_stride + c * m.col_stride) * bytes_of(m.dtype);
  };
  Pieces p;
  p.x = static_cast<const char*>(cut.x.data) + offset(cut.x, *row, *col);
  p.out = static_cast<char*>(cut.out.data) + offset(cut.out, *row, *col);
  p.x_step = offset(cut.x, row_step, col_step);
  p.out_step = offset(cut.out, row_step, col_step);
  p.length = std::min(cut.length, cut.x.cols - *col);
  p.count = static_cast<int>(std::min(cut.batch, cut.line - first));
  return p;
}

// Whether whole vectors of `out` go past the caches: it is another matrix than x, larger than what a core has of them,
// and a block begins where a cache line does.
bool can_stream(const HadamardArgs& args) {
  constexpr int64_t kCached = int64_t{1} << 25;  // bytes
  const int64_t size = bytes_of(args.out.dtype);
  return args.out.data != args.x.data && args.out.rows * args.out.cols * size >= kCached &&
         reinterpret_cast<uintptr_t>(args.out.data) % 64 == 0 && args.out.row_stride * size % 64 == 0 &&
         args.block * size % 64 == 0;
}

}  // namespace

Status hadamard(const HadamardArgs& args, const Parallel& parallel) {
  HadamardSize size;
  LOWBIT_RETURN_IF_ERROR(check_hadamard(args, &size));
  cpu::ran(LOWBIT_KERNEL("hadamard"));
  if (args.x.rows == 0) return Status();
  const HadamardMatrix& matrix = hadamard_matrix(size.base);
  Plan plan;
  plan.base = {size.base, args.transpose, args.transpose ? matrix.transposed_signs.data() : matrix.signs.data()};
  plan.log2 = size.log2;
  plan.n = args.block;
  plan.transpose = args.transpose;
  plan.scale = args.scale;

  Transform kernel = transform_of(args.x, args.out);
  const Cut cut = cut_of(args, plan, kernel == nullptr);
  if (cut.staged) kernel = transform_pieces<DType::kF32, DType::kF32>;
  plan.stream = !cut.staged && can_stream(args);

  const bool sign_a_block = args.sign_length == plan.n;
  float repeated[kSet];  // the signs of a block, for runs of blocks that are shorter than a register set
  if (args.sign && sign_a_block && plan.in_runs()) {
    for (int64_t i = 0; i < kSet; ++i) repeated[i] = args.sign[i % plan.n];
  }

  const int64_t pitch = round_up(cut.length, kLanes);
  const int64_t stage = cut.staged ? pitch * cut.batch : 0;
  const int64_t sums = plan.in_runs() ? 0 : plan.in_panels() ? plan.n * kLanes : round_up(plan.n, kLanes);
  const int64_t base_space = size.base > 1 ? base_workspace(size.base, 2 * kLanes) : 0;
  std::atomic<bool> out_of_memory{false};
  const int64_t tasks = cut.lines * cut.per_line;
  parallel(tasks, std::max<int64_t>(1, 16384 / (cut.length * cut.batch)), [&](int64_t begin, int64_t end) {
    const Workspace workspace(stage + sums + base_space);
    if (!workspace.data) {
      out_of_memory = true;
      return;
    }
    float* const staging = workspace.data;
    for (int64_t t = begin; t < end; ++t) {
      int64_t row, col;
      const Pieces given = pieces_of(cut, t, &row, &col);
      Pieces p = given;
      if (args.sign && sign_a_block && plan.in_runs()) {
        p.sign = {repeated, 0};
      } else if (args.sign) {
        p.sign = {args.sign + (sign_a_block ? 0 : col), kSet};
        p.sign_step = sign_a_block || cut.down ? 0 : cut.length;
      }
      if (!cut.staged) {
        kernel(plan, p, workspace.data);
        continue;
      }
      const auto step = [](int64_t bytes, DType t) { return bytes / bytes_of(t); };
      gather_of(args.x.dtype)(given.x, step(given.x_step, args.x.dtype), args.x.col_stride, p.count, p.length, staging,
                              pitch);
      p.x = p.out = reinterpret_cast<char*>(staging);
      p.x_step = p.out_step = pitch * 4;
      kernel(plan, p, workspace.data + stage);
      scatter_of(args.out.dtype)(staging, pitch, p.count, p.length, given.out, step(given.out_step, args.out.dtype),
                                 args.out.col_stride);
    }
    if (plan.stream) stream_fence();
  });
  return out_of_memory ? Status(Code::kOutOfMemory, "hadamard: no memory for the workspace of a block") : Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
