// prepack and unprepack on CUDA (ref/pack.h): canonical or plain codes to and from the tiled layouts, and these to each
// other. Every byte is read and written once, by way of 16 rows x 512 columns in shared memory.
//
// Tiled codes are aligned to 16 bytes, as allocations and whole tiles of mma64 are.
#pragma once

#include "cuda/launch.h"
#include "ref/pack.h"

namespace lowbit::cuda {

Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Call& call);
Status unprepack(const Codes& tiles, void* out, const Call& call);

// Tiled codes to one a byte, rows x cols.
Status unpack_tiles(const Codes& tiles, uint8_t* out, const Call& call);

}  // namespace lowbit::cuda
