// What the GEMM families choose, for tests: no device is asked.
#include "cuda/bitplane_gemm.h"
#include "cuda/c_api/gemm_args.h"

using namespace lowbit;

namespace {

// The mirror of Device.
struct CDevice {
  int64_t sm, suffix, multiprocessors, shared_per_block, shared_per_multiprocessor;

  cuda::Device device() const {
    cuda::Device d;
    d.sm = d.code.sm = static_cast<int>(sm);
    d.code.suffix = static_cast<char>(suffix);
    d.multiprocessors = static_cast<int>(multiprocessors);
    d.shared_per_block = shared_per_block;
    d.shared_per_multiprocessor = shared_per_multiprocessor;
    return d;
  }
};

// The mirror of GemmChoice.
struct CChoice {
  int64_t engine, bits, float_weights, blocks, narrow, stages, splits, grid_x, grid_y, shared_bytes, workspace_bytes;
};

}  // namespace

// `exact`: as for bitplane_gemm. `experts` 0: no grouped call.
extern "C" LOWBIT_EXPORT int lowbit_cuda_choose_gemm(const char* op, const cuda::CGrouped* c, const CDevice* device,
                                                     int exact, CChoice* out, char* error, int64_t size) {
  cuda::GemmOperands a;
  cuda::GemmChoice choice{};
  const cuda::GroupedRows grouped = c->rows();
  Status status = a.read(op, c->gemm);
  if (status.ok()) {
    status = cuda::choose_gemm(op, a.args, c->experts > 0 ? &grouped : nullptr, device->device(), exact != 0, &choice);
  }
  *out = {static_cast<int64_t>(choice.engine),
          choice.bits,
          choice.float_weights,
          static_cast<int64_t>(choice.blocks),
          choice.narrow,
          choice.stages,
          choice.splits,
          choice.grid.x,
          choice.grid.y,
          choice.shared_bytes,
          choice.workspace_bytes};
  return cuda::answer(status, error, size);
}

// The table of bitplane_gemm's engines. 0: planes on the binary tensor cores, 1: bytes on those of int8.
extern "C" LOWBIT_EXPORT int lowbit_cuda_bitplane_engine(int sm, int p, int q, int64_t m) {
  return static_cast<int>(cuda::bitplane_engine(sm, p, q, m));
}

// The same with what these operands allow; -1: they are none.
extern "C" LOWBIT_EXPORT int lowbit_cuda_bitplane_engine_of(const cuda::CGemm* c, int sm) {
  cuda::GemmOperands a;
  return a.read("bitplane_gemm", *c).ok() ? static_cast<int>(cuda::bitplane_engine(a.args, sm)) : -1;
}
