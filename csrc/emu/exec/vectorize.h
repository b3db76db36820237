// Marks a function whose loops over 32 lanes deserve wider vectors than the baseline of x86-64 has: the compiler makes
// one copy for each instruction set, the loader picks one.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EMU_VECTORIZE __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define EMU_VECTORIZE
#endif
