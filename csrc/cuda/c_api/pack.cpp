// pack, unpack, prepack, unprepack over device pointers.
#include "cuda/pack.h"

#include "cuda/c_api/operands.h"
#include "cuda/prepack.h"

using namespace lowbit;

// `order`: an Order, or -1 for the canonical layout.
extern "C" LOWBIT_EXPORT int lowbit_cuda_pack(const cuda::CCodes* c, int64_t order, void* out, const cuda::CCall* call,
                                              char* error, int64_t size) {
  Codes codes;
  Status status = c->read("pack", &codes);
  if (status.ok()) {
    const auto* from = static_cast<const uint8_t*>(codes.data);
    status = order < 0 ? cuda::pack(*codes.format, from, codes.row_stride, codes.rows, codes.cols, out, call->call())
                       : cuda::pack_order(static_cast<Order>(order), *codes.format, from, codes.row_stride, codes.rows,
                                          codes.cols, out, call->call());
  }
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_unpack(const cuda::CCodes* c, int64_t order, uint8_t* out,
                                                const cuda::CCall* call, char* error, int64_t size) {
  Codes codes;
  Status status = c->read("unpack", &codes);
  if (status.ok()) {
    status = order < 0 ? cuda::unpack(codes, out, call->call())
                       : cuda::unpack_order(static_cast<Order>(order), *codes.format, codes.data, codes.rows,
                                            codes.cols, out, call->call());
  }
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_prepack(const cuda::CCodes* c, int64_t layout, uint8_t* out,
                                                 const cuda::CCall* call, char* error, int64_t size) {
  Codes codes;
  Status status = c->read("prepack", &codes);
  if (status.ok()) status = cuda::prepack(codes, static_cast<Layout>(layout), out, call->call());
  return cuda::answer(status, error, size);
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_unprepack(const cuda::CCodes* c, void* out, const cuda::CCall* call,
                                                   char* error, int64_t size) {
  Codes codes;
  Status status = c->read("unprepack", &codes);
  if (status.ok()) status = cuda::unprepack(codes, out, call->call());
  return cuda::answer(status, error, size);
}
