// The readers and writers of rows of codes of the instruction set that a file is compiled for: kChunk, kChunks, kBlock,
// Run, prefetch, ByteRows, PlaneRows, NibbleRows, Packed6Rows.
#pragma once

#if defined(__AVX512F__)
#include "cpu/avx512/code_rows.h"
#else
#include "cpu/avx2/code_rows.h"
#endif
