// The control interface of the emulator beside the CUDA runtime it stands in for: plain C, for tests (ctypes) and
// tools. Texts are UTF-8, owned by the library, valid until the next call of the same function on the same thread.
#pragma once

#include <cstdint>

#define EMU_API extern "C" __attribute__((visibility("default")))

// Settings by name, as in config.h ("arch", "seed", "mma": "exact" / "hardware", "uninitialized": "ignore" / "load" /
// "use", "order": "random" / "ascending", "races": "0" / "1", "sms", "multiprocessors", "threads",
// "spin_limit", "slice", "fatal_reports"). 0, or -1 with emu_error().
EMU_API int emu_set(const char* name, const char* value);
EMU_API const char* emu_get(const char* name);
EMU_API const char* emu_error();

// Findings since the last call of emu_clear_reports, as a JSON list of
// {finding, kernel, block, thread, line, text, message, count, other: {...} | null}.
EMU_API const char* emu_reports();
EMU_API void emu_clear_reports();

// Counts of the launches since the last emu_clear_counts, as a JSON list, one entry a launch:
// {kernel, grid, block, shared, arch, seconds, thread_instructions, classes: {...}, tensor: {"m16n8k32.s8.s8.s32": n,
// ...},
//  instructions: [{line, text, warps, threads, sectors, sectors_least, wavefronts, wavefronts_least}, ...]}
EMU_API const char* emu_counts();
EMU_API void emu_clear_counts();
// Calls of the same time that wait for the device: cuda...Synchronize, copies that are not Async or whose host side is
// not pinned, cudaFree.
EMU_API uint64_t emu_waits();
// Whether instructions are listed one by one in emu_counts (off by default: long).
EMU_API void emu_count_instructions(int on);
// The predicted bound of each counted launch (rt/predict.h), as a JSON list. `global_bytes`: what a launch must move
// between memory and chip at least, 0 where that is not known.
EMU_API const char* emu_predict(uint64_t global_bytes);

// Makes host memory visible to kernels at its own address, as initialized (1) or unwritten (0). Ranges may not overlap.
EMU_API int emu_map(void* host, uint64_t bytes, int initialized);
EMU_API int emu_unmap(void* host);

// PTX text as a module; kernels by name. Parameters are packed as the kernel declares them.
EMU_API void* emu_module_load(const char* ptx);
EMU_API void emu_module_unload(void* module);
EMU_API int emu_module_launch(void* module, const char* kernel, const uint32_t grid[3], const uint32_t block[3],
                              uint64_t dynamic_shared, const void* parameters, uint64_t parameter_bytes);
// Kernel names of a module, or of all that were registered by loaded objects (module == null): JSON list.
EMU_API const char* emu_kernels(void* module);
// Opcodes with their modifiers that a registered kernel uses: JSON {"kernel": ["ld.global.v4.u32", ...]}.
EMU_API const char* emu_opcodes(void* module);
