#include "cpu/gemm.h"

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

#include "cpu/dispatch.h"

namespace lowbit::cpu {

Family family_of(const ElementFormat* x_format, Layout x_layout, const ElementFormat& w_format) {
  if (x_format == nullptr) return Family::kDequantGemm;
  const bool planes = x_layout == Layout::kCanonical && canonical(*x_format) == Canonical::kPlanes;
  const bool integers = x_format->is_int() && w_format.is_int();
  return integers && (planes || w_format.bits <= 2) ? Family::kBitplaneGemm : Family::kScaledGemm;
}

const char* name_of(Family family) {
  switch (family) {
    case Family::kBitplaneGemm: return "bitplane_gemm";
    case Family::kDequantGemm: return "dequant_gemm";
    default: return "scaled_gemm";
  }
}

namespace {

using Gemm = Status (*)(const GemmArgs&, const Parallel&);

// The table's entry; notes the reference as what runs, which a kernel of an ISA folder overwrites when it takes over.
// Bit planes cannot count a float zero point of x: such a pair leaves the integer path, and with it bitplane_gemm.
Gemm entry(const Kernels& table, Family family, const GemmArgs& args) {
  if (family == Family::kBitplaneGemm && !is_integer_path(args)) family = Family::kScaledGemm;
  switch (family) {
    case Family::kBitplaneGemm: ran("bitplane_gemm:ref"); return table.bitplane_gemm;
    case Family::kDequantGemm: ran("dequant_gemm:ref"); return table.dequant_gemm;
    default: ran("scaled_gemm:ref"); return table.scaled_gemm;
  }
}

}  // namespace

Status run(Family family, const GemmArgs& args, const Parallel& parallel) {
  const Kernels* table = nullptr;
  LOWBIT_RETURN_IF_ERROR(kernels(&table));
  return entry(*table, family, args)(args, parallel);
}

Status dequant_gemm_input_grad(const GemmArgs& args, const Parallel& parallel) {
  const Kernels* table = nullptr;
  LOWBIT_RETURN_IF_ERROR(kernels(&table));
  ran("dequant_gemm_input_grad:ref");
  return table->dequant_gemm_input_grad(args, parallel);
}

namespace {

// Storage for rows x cols values: floats, or codes of `format`.
bool make_store(const ElementFormat* format, DType dtype, int64_t rows, int64_t cols, std::unique_ptr<char[]>* memory,
                BlockStore* store) {
  int64_t bytes = rows * cols * size_of(dtype);
  if (format != nullptr) {
    const Canonical kind = canonical(*format);
    bytes = rows * canonical_row(kind, cols) * (kind == Canonical::kPlanes ? 4 * format->bits : 1);
  }
  memory->reset(new (std::nothrow) char[static_cast<size_t>(bytes) + 1]);
  *store = {memory->get(), dtype, format, rows, cols};
  return *memory != nullptr;
}

// One block along an axis is written as 0, as the bindings do: what does not change cuts no segment.
Block normal(Block block, int64_t rows, int64_t cols) {
  return {Block::count(rows, block.rows) == 1 ? 0 : block.rows, Block::count(cols, block.cols) == 1 ? 0 : block.cols};
}

}  // namespace

Status quantize_rows(const char* op, const Spec& spec, const Matrix& x, const BlockValues& scale,
                     const BlockValues& zero, const Parallel& parallel, QuantizedRows* out) {
  const Kernels* table = nullptr;
  LOWBIT_RETURN_IF_ERROR(kernels(&table));
  const auto no_memory = [&] {
    return Status(Code::kOutOfMemory, std::string(op) + ": no memory for the quantized activations");
  };
  QuantizeArgs q;
  q.x = x;
  q.rows = x.rows;
  q.cols = x.cols;
  q.scaling.op = op;
  q.scaling.spec = spec;
  q.scaling.spec.layout = q.layout = Layout::kPlain;
  q.scaling.asymmetric = spec.element->is_int() && spec.element->rule == kUnsigned && !scale;
  q.scale = scale;
  q.zero = zero;
  out->codes.reset(new (std::nothrow) char[static_cast<size_t>(x.rows * x.cols) + 1]);
  if (!out->codes) return no_memory();
  q.codes = out->codes.get();
  if (!scale) {
    LOWBIT_RETURN_IF_ERROR(check_scaling(q.scaling));
    const int64_t rows = Block::count(x.rows, spec.block.rows), cols = Block::count(x.cols, spec.block.cols);
    const int64_t rows2 = Block::count(rows, spec.scale_block.rows), cols2 = Block::count(cols, spec.scale_block.cols);
    Scaling& to = q.scaling;
    if (!make_store(spec.scale, DType::kF32, rows, cols, &out->scale, &to.scale) ||
        (spec.scale_has_scale && !make_store(nullptr, DType::kF32, rows2, cols2, &out->scale2, &to.scale2)) ||
        (to.asymmetric && !make_store(nullptr, DType::kU8, rows, cols, &out->zero, &to.zero))) {
      return no_memory();
    }
  }
  LOWBIT_RETURN_IF_ERROR(table->quantize(q, parallel));
  QMatrix& m = out->matrix;
  m.cols = x.cols;
  m.codes.data = out->codes.get();
  m.codes.format = spec.element;
  m.codes.layout = Layout::kPlain;
  m.codes.rows = x.rows;
  m.codes.cols = m.codes.row_stride = x.cols;
  m.scale = scale ? scale : scale_view(q.scaling, &out->second);
  m.zero = zero;
  if (q.scaling.asymmetric) m.zero = zero_view(q.scaling);
  if (!scale) m.scale.block = m.zero.block = normal(spec.block, x.rows, x.cols);
  return Status();
}

namespace {

// Columns of out in one tile of a grouped product: whole tiles of the prepacked layout and of the usual scale blocks.
constexpr int64_t kTile = 256;

bool sliceable(const BlockValues& v, int64_t rows_per_value) {
  if (!v) return true;
  const int64_t rows = v.block.rows * rows_per_value;
  return (v.block.rows == 0 || kTile % rows == 0) &&
         (v.second == nullptr || sliceable(*v.second, std::max<int64_t>(rows, 1)));
}

// Whether w may be cut at every multiple of kTile rows.
bool sliceable(const GemmArgs& a) {
  return !a.w.codes.format->is_complex() && a.w.high == nullptr && a.w.outliers.offsets == nullptr &&
         sliceable(a.w.scale, 1) && sliceable(a.w.zero, 1);
}

Codes rows_from(Codes c, int64_t r) {
  const auto* base = static_cast<const char*>(c.data);
  if (is_tiled(c.layout)) {
    c.data = base + tiled_bytes(c.layout, c.format->bits, r, c.cols);
  } else {
    const bool words = c.layout == Layout::kCanonical && canonical(*c.format) == Canonical::kPlanes;
    c.data = base + r * c.row_stride * (words ? 4 : 1);
  }
  c.rows -= r;
  return c;
}

BlockValues rows_from(BlockValues v, int64_t r) {
  if (!v || v.block.rows == 0) return v;
  const int64_t i = r / v.block.rows;
  if (v.codes.format != nullptr) {
    v.codes = rows_from(v.codes, i);
    v.data = v.codes.data;
  } else {
    v.data = static_cast<const char*>(v.data) + i * v.row_stride * size_of(v.dtype);
  }
  return v;
}

QMatrix rows_from(const QMatrix& q, int64_t r, BlockValues* second) {
  QMatrix t = q;
  t.codes = rows_from(q.codes, r);
  t.scale = rows_from(q.scale, r);
  t.zero = rows_from(q.zero, r);
  if (q.scale.second != nullptr) {
    *second = rows_from(*q.scale.second, q.scale.block.rows == 0 ? 0 : r / q.scale.block.rows);
    t.scale.second = second;
  }
  return t;
}

// Columns [n0, n1) of the product; n0 is a multiple of kTile.
GemmArgs columns(const GemmArgs& a, int64_t n0, int64_t n1, BlockValues* second) {
  GemmArgs t = a;
  t.n = t.out.cols = n1 - n0;
  t.w = rows_from(a.w, n0, second);
  t.w.codes.rows = t.n;
  if (a.bias != nullptr) t.bias = static_cast<const char*>(a.bias) + n0 * a.bias_stride * size_of(a.bias_dtype);
  t.out.data = static_cast<char*>(a.out.data) + n0 * a.out.col_stride * size_of(a.out.dtype);
  return t;
}

// Runs tile(e, i) for tile i of tiles[e] of every expert e, in one parallel region.
template <class F>
Status for_tiles(const std::vector<int64_t>& tiles, const Parallel& parallel, const F& tile) {
  std::vector<int64_t> first(tiles.size() + 1, 0);
  for (size_t e = 0; e < tiles.size(); ++e) first[e + 1] = first[e] + tiles[e];
  std::mutex mutex;
  Status status;
  parallel(first.back(), 1, [&](int64_t begin, int64_t end) {
    auto e = static_cast<size_t>(std::upper_bound(first.begin(), first.end(), begin) - first.begin() - 1);
    for (int64_t i = begin; i < end; ++i) {
      while (i >= first[e + 1]) ++e;
      Status s = tile(static_cast<int64_t>(e), i - first[e]);
      if (s.ok()) continue;
      const std::lock_guard<std::mutex> lock(mutex);
      if (status.ok()) status = std::move(s);
    }
  });
  return status;
}

}  // namespace

GemmArgs rows_of(const GemmArgs& a, int64_t m0, int64_t m1, QMatrix* x, BlockValues* second) {
  GemmArgs t = a;
  t.m = t.x.rows = t.out.rows = m1 - m0;
  t.out.data = static_cast<char*>(a.out.data) + m0 * a.out.row_stride * size_of(a.out.dtype);
  if (a.xq == nullptr) {
    t.x.data = static_cast<char*>(a.x.data) + m0 * a.x.row_stride * size_of(a.x.dtype);
  } else {
    *x = rows_from(*a.xq, m0, second);
    x->codes.rows = t.m;
    t.xq = x;
  }
  return t;
}

Status grouped(Family family, const GemmArgs* args, int64_t count, const Parallel& parallel) {
  const Kernels* table = nullptr;
  LOWBIT_RETURN_IF_ERROR(kernels(&table));
  if (count == 0) return Status();
  const Gemm gemm = entry(*table, family, args[0]);  // experts differ in data alone
  std::vector<int64_t> tiles;
  for (int64_t e = 0; e < count; ++e) {
    tiles.push_back(args[e].m == 0 ? 0 : sliceable(args[e]) ? ceil_div(args[e].n, kTile) : 1);
  }
  return for_tiles(tiles, parallel, [&](int64_t e, int64_t i) {
    if (tiles[static_cast<size_t>(e)] == 1) return gemm(args[e], serial());
    BlockValues second;
    return gemm(columns(args[e], i * kTile, std::min(args[e].n, (i + 1) * kTile), &second), serial());
  });
}

Status grouped_input_grad(const GemmArgs* args, int64_t count, const Parallel& parallel) {
  const Kernels* table = nullptr;
  LOWBIT_RETURN_IF_ERROR(kernels(&table));
  ran("dequant_gemm_input_grad:ref");
  constexpr int64_t kRows = 64;
  std::vector<int64_t> tiles;
  for (int64_t e = 0; e < count; ++e) tiles.push_back(ceil_div(args[e].m, kRows));
  return for_tiles(tiles, parallel, [&](int64_t e, int64_t i) {
    const int64_t m1 = std::min(args[e].m, (i + 1) * kRows);
    return table->dequant_gemm_input_grad(rows_of(args[e], i * kRows, m1, nullptr, nullptr), serial());
  });
}

}  // namespace lowbit::cpu
