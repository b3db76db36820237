"""OpenVINO's CPU plugin: a MatMul with compressed weights, activations quantized to int8 by group."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peers import Candidate, Problem, copy_count, symmetric


def library() -> Any:
    import openvino

    return openvino


def candidates(problem: Problem) -> Iterator[Candidate]:
    ov = library()
    if problem.bits not in (4, 8) or problem.dense.shape[1] % (problem.group or 128):
        return
    n, k = problem.dense.shape
    group = problem.group or 128
    codes, scale, dense = symmetric(problem.dense, problem.bits, group)
    # the plugin keeps scales as fp16
    scale = scale.half().float()
    dense = (codes.reshape(n, -1, group) * scale.unsqueeze(-1)).reshape(n, k)
    data = _data(codes.reshape(n, k // group, group), problem.bits)
    model = _model(n, k, problem.bits, group, data, scale)
    settings = {
        "INFERENCE_NUM_THREADS": problem.threads,
        "NUM_STREAMS": 1,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    size = n * k * problem.bits // 8 + n * (k // group) * 2
    core = ov.Core()
    # compiled models may still point into the array that the constants were made of: it is kept with each
    requests = [(core.compile_model(model, "CPU", settings).create_infer_request(), data) for _ in range(copy_count())]

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        given = ov.Tensor(np.ascontiguousarray(x.numpy()))

        def call(turn: int) -> Tensor:
            request, _ = requests[turn % len(requests)]
            request.set_input_tensor(given)
            request.infer()
            return torch.from_numpy(request.get_output_tensor().data)

        return call

    yield Candidate(f"openvino i{problem.bits} g{group} dynamic", "int8", dense, size, bind)


def _data(grouped: Tensor, bits: int) -> np.ndarray:
    """Codes as the plugin reads them, two of 4 bits in a byte, the even one low."""
    if bits == 8:
        return np.ascontiguousarray(grouped.numpy())
    nibbles = (grouped.reshape(-1, 2).numpy() & 15).astype(np.uint8)
    return np.ascontiguousarray(nibbles[:, 0] | (nibbles[:, 1] << 4))


def _model(n: int, k: int, bits: int, group: int, data: np.ndarray, scale: Tensor):
    import openvino as ov
    from openvino import opset13 as ops

    x = ops.parameter([-1, k], np.float32)
    codes = ov.Tensor(data, [n, k // group, group], ov.Type.i4) if bits == 4 else ov.Tensor(data)
    weight = ops.convert(ops.constant(codes), np.float16)
    scaled = ops.multiply(weight, ops.constant(scale.half().reshape(n, -1, 1).numpy()))
    flat = ops.convert(ops.reshape(scaled, np.array([n, k]), False), np.float32)
    return ov.Model([ops.matmul(x, flat, False, True)], [x])
