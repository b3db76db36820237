import json

import lowbit
import torch
from lowbit import _C


def test_capabilities_are_plain_data():
    data = lowbit.capabilities()
    assert json.loads(json.dumps(data)) == data
    assert data["torch"] == torch.__version__
    assert data["threads"] == torch.get_num_threads()
    assert data["isa"] in data["isas"]
    assert data["isas"][-1] == "ref"
    assert data["cuda"] == {"built": False, "archs": []}
    assert {"int4", "float4_e2m1fn", "nf4"} <= set(data["formats"])
    assert {"mxfp4", "nvfp4"} <= set(data["block_formats"])


def test_kernels_name_only_isas_of_this_machine():
    data = lowbit.capabilities()
    assert {"quantize", "hadamard", "bitplane_gemm", "dequant_gemm", "scaled_gemm"} <= set(data["kernels"])
    for isas in data["kernels"].values():
        assert set(isas) <= set(data["isas"]) - {"ref"}


def test_capabilities_follow_the_forced_isa(isa: str):
    assert lowbit.capabilities()["isa"] == isa == _C.isa()
