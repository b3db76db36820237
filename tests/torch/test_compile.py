"""torch.compile(fullgraph=True) and torch.export: no graph break, no recompilation per size, the same bits as eager."""

import lowbit
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim

ops = lowbit.ops
N, K = 24, 72


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    """Every op that a model calls on its activations, in one graph."""

    def __init__(self) -> None:
        super().__init__()
        codes, scale, _, _ = ops.quantize(random(N, K), "int4:g24")
        tiles = ops.prepack(codes, "int4:g24", K)
        mx, mx_scale, _, _ = ops.quantize(random(N, K, seed=1), "mxfp8_e4m3")
        experts, expert_scale, _, _ = ops.quantize(random(3, N, K, seed=2), "int4:g24")
        buffers = {
            "codes": codes, "scale": scale, "tiles": tiles, "mx": mx, "mx_scale": mx_scale, "experts": experts,
            "expert_scale": expert_scale, "seed": torch.tensor([1, 2]), "bias": random(N), "sign": random(K).sign(),
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, ids: Tensor, offs: Tensor) -> Tensor:
        x = ops.embedding(ids, self.codes, self.scale, None, "int4:g24", K)
        x = ops.hadamard(x, block=24, sign=self.sign)
        x = ops.stochastic_round(x, "bfloat16", self.seed).float()
        y = ops.gemm(x, self.codes, self.scale, None, "int4:g24", bias=self.bias)
        y = y + ops.gemm(x, self.tiles, self.scale, None, "int4:g24@tile16", x_format="int8")
        y = y + ops.dequant_gemm(x, self.mx, self.mx_scale, None, "mxfp8_e4m3")
        x_codes, x_scale, _, _ = ops.quantize(x, "mxfp8_e4m3")
        y = y + ops.scaled_gemm(x_codes, x_scale, "mxfp8_e4m3", self.mx, self.mx_scale, "mxfp8_e4m3", K)
        x_codes, x_scale, _, _ = ops.quantize(x, "int3", layout="plain")
        y = y + ops.bitplane_gemm(x_codes, x_scale, None, "int3", self.codes, self.scale, None, "int4:g24", K)
        y = y + ops.grouped_gemm(x, self.experts, self.expert_scale, None, offs, "int4:g24")
        planes = ops.pack(ops.unpack(self.codes, "int4", K), "int4")
        first, scale, zero = ops.truncate(planes, self.scale, None, "int4:g24", 2)
        weight = ops.dequantize(ops.unprepack(ops.prepack(first, "int2", K), "int2", N, K), scale, zero, "int2:g24", K)
        return y + x @ weight.t()


def arguments(rows: int) -> tuple[Tensor, Tensor]:
    ids = torch.arange(rows) * 7 % N
    return ids, torch.tensor([rows // 3, rows // 3, rows], dtype=torch.int32)


def test_a_graph_of_all_ops_compiles_whole():
    block = Block()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(block, fullgraph=True, backend=counter, dynamic=True)
    with torch.no_grad():
        for rows in (5, 9, 64):
            assert torch.equal(compiled(*arguments(rows)), block(*arguments(rows)))
    assert counter.frame_count == 1, "compiled again for another number of rows"


def test_static_shapes_compile_whole():
    block = Block()
    with torch.no_grad():
        got = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=False)(*arguments(6))
        assert torch.equal(got, block(*arguments(6)))


def test_gradients_compile_whole():
    codes, scale, _, _ = ops.quantize(random(N, K), "int4:g24")

    def loss(x: Tensor, bias: Tensor) -> Tensor:
        rotated = ops.hadamard(x, block=24)
        y = ops.gemm(rotated, codes, scale, None, "int4:g24", bias=bias)
        y = y + ops.gemm(rotated, codes, scale, None, "int4:g24", x_format="int8")
        return (y + ops.dequant_gemm(rotated, codes, scale, None, "int4:g24")).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (4, 7):
        inputs = [random(rows, K, seed=3).requires_grad_(), random(N, seed=4).requires_grad_()]
        expected = torch.autograd.grad(loss(*inputs), inputs)
        for got, want in zip(torch.autograd.grad(compiled(*inputs), inputs), expected, strict=True):
            assert torch.equal(got, want)


def test_ops_that_write_their_arguments_compile_whole():
    codes, scale, _, _ = ops.quantize(random(N, K), "int4:g24")

    def step(codes: Tensor, x: Tensor, dw: Tensor, out: Tensor) -> Tensor:
        ops.stochastic_round_update_(codes, scale, None, dw, "int4:g24", torch.tensor([3, 0]))
        ops.gemm(x, codes, scale, None, "int4:g24", out=out)
        ops.hadamard(x, block=24, out=x)
        return out + 1

    def run(function: object) -> list[Tensor]:
        tensors = [codes.clone(), random(5, K), random(N, K, seed=5), torch.empty(5, N)]
        assert callable(function)
        return [function(*tensors), *tensors]

    for got, want in zip(run(torch.compile(step, fullgraph=True, backend="aot_eager")), run(step), strict=True):
        assert torch.equal(got, want)


def test_a_wrong_format_is_named_at_compile_time():
    codes, scale, _, _ = ops.quantize(random(N, K), "int4:g24")
    compiled = torch.compile(lambda x: ops.gemm(x, codes, scale, None, "in4:g24"), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match='gemm: w_format must name a known format, got "in4"; did you mean "int4"'):
        compiled(random(2, K))


def test_export_with_a_dynamic_number_of_rows(tmp_path):
    block, rows = Block(), Dim("rows", min=2, max=4096)
    program = torch.export.export(block, arguments(6), dynamic_shapes={"ids": {0: rows}, "offs": None})
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {"lowbit.gemm.default", "lowbit.grouped_gemm.default", "lowbit.quantize.default"} <= called
    torch.export.save(program, tmp_path / "block.pt2")
    loaded = torch.export.load(tmp_path / "block.pt2").module()
    for count in (6, 17):
        assert torch.equal(loaded(*arguments(count)), block(*arguments(count)))


def test_meta_tensors_give_shapes_without_data():
    x = torch.empty(3, 5, K, device="meta")
    codes, scale, _, _ = (t.to("meta") for t in ops.quantize(random(N, K), "int4:g24"))
    y = ops.gemm(x, codes, scale, None, "int4:g24", out_dtype=torch.bfloat16)
    assert (y.device.type, y.shape, y.dtype) == ("meta", (3, 5, N), torch.bfloat16)
