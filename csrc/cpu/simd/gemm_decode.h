// The decoder of tiles of the instruction set that a file is compiled for, and what the engines share.
//
//   TileDecoder<bits>   operator()(p, whole, codes): the 64 codes of the tile at p in the order of the tile, kLanes
//   rows
//                       a vector; kBytes of a tile; `whole` promises that kLoad bytes, at most two tiles, may be read
//                       decode(p, whole, codes): the same but for the order of rows, which is that of the tile where
//                       kRowsInOrder; else to_order(&a, &b) and from_order(in, out) change between the two
//   ByteTable<bits>     table[code] for the codes in the bytes of a vector
//   lookup_high_halves(codes, n, table, out)
//                       out[i] = the float whose high half is table[codes[i]], its low half 0, for the first codes of
//                       n; returns of how many: 0 where a gather is as quick
#pragma once

#include "cpu/simd/gemm_engines.h"
#include "cpu/simd/vector.h"

#if defined(__AVX512F__)
#include "cpu/avx512/decode.h"
#else
#include "cpu/avx2/decode.h"
#endif
