"""onnxruntime's MatMulNBits with activations quantized to int8 by block (accuracy_level 4). onnx writes its models."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from peers import Candidate, Problem, copy_count, symmetric


def library() -> Any:
    import onnx  # noqa: F401 - writes the models
    import onnxruntime

    return onnxruntime


def candidates(problem: Problem) -> Iterator[Candidate]:
    onnxruntime = library()
    group = problem.group or 128
    if problem.bits not in (2, 4, 8) or problem.dense.shape[1] % group:
        return
    n, k = problem.dense.shape
    codes, scale, dense = symmetric(problem.dense, problem.bits, group)
    model = _model(n, k, problem.bits, group, codes, scale)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = problem.threads
    # its threads shall not spin while others are timed
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    size = n * k * problem.bits // 8 + scale.nbytes
    sessions = [
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]) for _ in range(copy_count())
    ]

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        given = {"x": x.numpy()}
        return lambda turn: torch.from_numpy(sessions[turn % len(sessions)].run(None, given)[0])

    yield Candidate(f"onnxruntime MatMulNBits b{problem.bits} g{group}", "int8", dense, size, bind)


def _model(n: int, k: int, bits: int, group: int, codes: Tensor, scale: Tensor) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    unsigned = (codes.to(torch.int16) + 2 ** (bits - 1)).to(torch.uint8).reshape(n, k // group, -1, 8 // bits)
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    packed = (unsigned << shifts).sum(-1, dtype=torch.uint8)
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=group,
        accuracy_level=4,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", n])],
        [
            numpy_helper.from_array(packed.numpy(), "w"),
            numpy_helper.from_array(scale.float().reshape(-1).numpy(), "s"),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
