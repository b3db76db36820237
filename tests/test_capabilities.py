import json

import lowbit
import pytest
import torch
from lowbit import _C, library


def test_capabilities_are_plain_data():
    data = lowbit.capabilities()
    assert json.loads(json.dumps(data)) == data
    assert data["torch"] == torch.__version__
    assert data["threads"] == torch.get_num_threads()
    assert data["isa"] in data["isas"]
    assert data["isas"][-1] == "ref"
    assert data["cuda"].keys() == {"built", "loaded", "reason", "archs", "engines", "kernels"}
    assert {"int4", "float4_e2m1fn", "nf4"} <= set(data["formats"])
    assert {"mxfp4", "nvfp4"} <= set(data["block_formats"])


def test_kernels_name_only_isas_of_this_machine():
    data = lowbit.capabilities()
    assert {"quantize", "hadamard", "bitplane_gemm", "dequant_gemm", "scaled_gemm"} <= set(data["kernels"])
    for isas in data["kernels"].values():
        assert set(isas) <= set(data["isas"]) - {"ref"}


def test_capabilities_follow_the_forced_isa(isa: str):
    assert lowbit.capabilities()["isa"] == isa == _C.isa()


def test_no_cuda_says_why():
    cuda = lowbit.capabilities()["cuda"]
    assert cuda["loaded"] == (cuda["reason"] == "") == bool(cuda["archs"])
    if torch.version.cuda is None:
        assert "has no CUDA" in cuda["reason"]


def test_what_cuda_tells_is_passed_on(monkeypatch: pytest.MonkeyPatch):
    told = library.Cuda(
        ("80", "120f"), {"80": ("int8", "binary"), "120f": ("int8", "float8")}, ("quantize", "hadamard")
    )
    monkeypatch.setattr(library, "cuda", lambda: (told, ""))
    data = lowbit.capabilities()["cuda"]
    assert json.loads(json.dumps(data)) == data
    assert data["loaded"]
    assert data["archs"] == ["80", "120f"]
    assert data["engines"]["120f"] == ["int8", "float8"]
    assert data["kernels"] == ["quantize", "hadamard"]
