"""llama.cpp on a whole model: its own loop over the layers, by the functions of llama.h that llama-cpp-python binds."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peers.ggml import THREAD

# of llama_ftype
FILE_TYPES = {"Q4_0": 2, "Q4_1": 3}


def library() -> Any:
    import llama_cpp

    return llama_cpp


class LlamaModel:
    """A model file with a context of `length` tokens, on so many threads."""

    def __init__(self, path: Path, length: int, threads: int):
        self.lib = lib = library()
        _silence(lib)
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self.model:
            raise ValueError(f"llama.cpp cannot read {path.name}")
        asked = lib.llama_context_default_params()
        asked.n_ctx = asked.n_batch = asked.n_ubatch = length
        asked.n_threads = asked.n_threads_batch = threads
        self.context = lib.llama_init_from_model(self.model, asked)
        self.memory = lib.llama_get_memory(self.context)
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    def __call__(self, ids: Tensor, position: int) -> Tensor:
        """Logits [vocabulary] after the last of the ids, which stand from `position` on."""
        return THREAD.submit(self._decoded, ids, position).result()

    def _decoded(self, ids: Tensor, position: int) -> Tensor:
        self.lib.llama_memory_seq_rm(self.memory, 0, position, -1)
        tokens = (ctypes.c_int32 * len(ids))(*ids.tolist())
        status = self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, len(ids)))
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        return torch.from_numpy(np.ctypeslib.as_array(logits, (self.vocabulary,)))

    def close(self) -> None:
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)


def requantize(source: Path, target: Path, kind: str, threads: int) -> None:
    """The same model with weights of another type."""
    lib = library()
    _silence(lib)
    asked = lib.llama_model_quantize_default_params()
    asked.ftype, asked.nthread, asked.allow_requantize = FILE_TYPES[kind], threads, True
    status = lib.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(asked))
    if status:
        raise RuntimeError(f"llama_model_quantize returned {status}")


def _silence(lib: Any) -> None:
    if not hasattr(lib, "silent"):
        lib.silent = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(lib.silent, None)
