"""Calibration: windows of tokens, and Hessians of what really enters the linears."""

import pytest
import torch
from lowbit import calibration
from lowbit.algorithms.hessian import HessianSum
from lowbit.config import HadamardRotation
from lowbit.layers import find_layers
from lowbit.nn import Edits
from lowbit.rotation import apply_rotation
from models import tiny_llama, token_ids
from torch import nn

IDS = token_ids()


class Tokenizer:
    def __call__(self, text, **kwargs):
        return {"input_ids": [ord(c) for c in text]}


def test_windows_spread_over_the_text():
    text = "".join(chr(i) for i in range(1000))
    windows = calibration.token_windows(text, Tokenizer(), windows=4, length=100)
    assert windows[:, 0].tolist() == [0, 200, 500, 700]
    assert windows.shape == (4, 100)
    assert calibration.token_windows([text, text], Tokenizer(), windows=99, length=100).shape == (20, 100)
    with pytest.raises(ValueError, match="at least 512 tokens, got 5; give more text"):
        calibration.token_windows("short", Tokenizer())


def test_ids_in_any_form():
    want = torch.arange(6).reshape(2, 3)
    for form in (want, want.int(), [[0, 1, 2], [3, 4, 5]], [torch.tensor([[0, 1, 2]]), torch.tensor([[3, 4, 5]])]):
        assert torch.equal(calibration.token_ids(form, None), want)
    for bad in (torch.randn(2, 3), torch.arange(6), [[1, 2], [3]], None, []):
        with pytest.raises(ValueError, match="must be text, int64 token ids"):
            calibration.token_ids(bad, None)


def direct(model, names):
    """Hessians by hooks on the whole model."""
    sums = {}
    handles = [
        model.get_submodule(n).register_forward_pre_hook(
            lambda m, args, n=n: sums.setdefault(n, HessianSum(m.in_features)).add(args[0])
        )
        for n in names
    ]
    with torch.no_grad():
        for window in IDS.split(1):
            model(window)
    for handle in handles:
        handle.remove()
    return {n: s.matrix() for n, s in sums.items()}


def test_hessians_are_those_of_the_whole_model():
    model = tiny_llama(layers=3)
    got = calibration.calibrate(model, IDS, progress=False)
    want = direct(model, find_layers(model).linears)
    assert got.tokens == IDS.numel()
    assert set(got.hessians) == set(want)
    for name, hessian in got.hessians.items():
        torch.testing.assert_close(hessian, want[name], rtol=1e-4, atol=1e-5 * float(want[name].abs().max()))


def test_linears_with_one_input_share_its_hessian():
    hessians = calibration.calibrate(tiny_llama(), IDS, progress=False).hessians
    of = {n.removeprefix("model.layers.0."): h for n, h in hessians.items() if "layers.0" in n}
    assert of["self_attn.q_proj"] is of["self_attn.k_proj"] is of["self_attn.v_proj"]
    assert of["mlp.gate_proj"] is of["mlp.up_proj"]
    assert len({id(h) for h in of.values()}) == 4


def test_the_next_block_sees_what_became_of_this_one():
    model = tiny_llama()
    layers = find_layers(model)

    def hessian_of_second(rerun):
        seen = {}
        for name, hessians in calibration.walk(model, layers, IDS, rerun=rerun):
            seen.update(hessians)
            if name == "model.layers.0":
                with torch.no_grad():
                    model.model.layers[0].mlp.down_proj.weight.mul_(3)
        with torch.no_grad():
            model.model.layers[0].mlp.down_proj.weight.div_(3)
        return seen["model.layers.1.self_attn.q_proj"]

    assert not torch.allclose(hessian_of_second(True), hessian_of_second(False))


def test_rotated_linears_report_the_rotated_input():
    model = tiny_llama()
    layers = find_layers(model)
    before = calibration.calibrate(model, IDS, progress=False).hessians
    apply_rotation(Edits(model), layers, HadamardRotation())
    after = calibration.calibrate(model, IDS, progress=False).hessians
    name = "model.layers.0.mlp.down_proj"

    def rotate(t):
        return torch.ops.lowbit.hadamard(t.contiguous())

    want = rotate(rotate(before[name]).T)
    torch.testing.assert_close(after[name], want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))


def test_only_one_block_of_hessians_is_held():
    model = tiny_llama(layers=3)
    walk = calibration.walk(model, find_layers(model), IDS)
    for _, hessians in walk:
        assert len({n.split(".")[2] for n in hessians}) == 1


def test_training_mode_and_hooks_are_restored():
    model = tiny_llama().train()
    calibration.calibrate(model, IDS, progress=False)
    assert model.training
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_too_little_text():
    with pytest.raises(ValueError, match="at least 160 tokens, as many as the widest linear has inputs, got 64"):
        calibration.calibrate(tiny_llama(), IDS[:2], progress=False)


def test_a_plain_module_is_one_block():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(128, 16), nn.Linear(16, 8), nn.Linear(8, 4))
    got = calibration.calibrate(model, IDS, progress=False).hessians
    assert set(got) == {"1", "2"}
    want = direct(model, ["1", "2"])
    for name in got:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)
