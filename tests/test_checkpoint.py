"""save and load: the same bits in a new process, and damage answered with one clear error."""

import copy
import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import lowbit
import pytest
import torch
from lowbit import checkpoint, recipes
from lowbit.nn import QuantLinear
from models import logits, tiny_llama, token_ids
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

IDS = token_ids(2)
NAMES = ["w8a16", "w4a16-g64", "w4a8", "w4a4-hadamard", "w8a8-mxfp8", "w4a4-nvfp4", "w4a16-nf4-g64"]


def quantized(name="w4a16-g64", **config) -> nn.Module:
    model = tiny_llama(**config)
    lowbit.quantize(model, name, progress=False)
    return model


@pytest.fixture
def saved(tmp_path):
    model = quantized()
    lowbit.save(model, tmp_path / "model")
    return model, tmp_path / "model"


@pytest.mark.parametrize(("name", "tied"), [(n, True) for n in NAMES] + [("w8a8", False), ("w4a4-hadamard", False)])
def test_the_loaded_model_computes_the_same_bits(name, tied, tmp_path):
    model = quantized(name, tied=tied)
    lowbit.save(model, tmp_path / "m")
    loaded = lowbit.load(tmp_path / "m")
    assert torch.equal(logits(loaded, IDS), logits(model, IDS))
    assert not [n for n, p in loaded.named_parameters() if p.is_meta]
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert lowbit.measure(loaded) == lowbit.measure(model)
    assert lowbit.config.Recipe.from_dict(loaded.lowbit_recipe) == recipes.get(name)
    # and again, from the loaded one
    lowbit.save(loaded, tmp_path / "again")
    assert (tmp_path / "again" / checkpoint.FILE).read_bytes() == (tmp_path / "m" / checkpoint.FILE).read_bytes()


def test_in_a_new_process(saved):
    model, folder = saved
    code = (
        "import sys, torch, lowbit\n"
        "ids = torch.tensor(eval(sys.argv[2]))\n"
        "with torch.no_grad(): out = lowbit.load(sys.argv[1])(input_ids=ids).logits\n"
        "torch.save(out, sys.argv[3])\n"
    )
    out = folder.parent / "out.pt"
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(IDS.tolist()), str(out)], check=False)
    assert done.returncode == 0
    assert torch.equal(torch.load(out), logits(model, IDS))


def test_bfloat16_stays(tmp_path):
    model = tiny_llama().to(torch.bfloat16)
    lowbit.quantize(model, "w8a16", progress=False)
    lowbit.save(model, tmp_path / "m")
    loaded = lowbit.load(tmp_path / "m")
    assert logits(loaded, IDS).dtype == torch.bfloat16
    assert torch.equal(logits(loaded, IDS), logits(model, IDS))


def test_bias_and_generation_config(tmp_path):
    model = tiny_llama(attention_bias=True)
    with torch.no_grad():
        for parameter in (p for n, p in model.named_parameters() if n.endswith("bias")):
            parameter.uniform_(-1, 1)
    model.generation_config.max_new_tokens = 7
    lowbit.quantize(model, "w8a8", progress=False)
    lowbit.save(model, tmp_path / "m")
    loaded = lowbit.load(tmp_path / "m")
    assert torch.equal(logits(loaded, IDS), logits(model, IDS))
    assert loaded.generation_config.max_new_tokens == 7


def test_the_file_is_canonical_and_small(saved):
    model, folder = saved
    tensors = load_file(folder / checkpoint.FILE)
    assert tensors["model.layers.0.mlp.up_proj.weight.codes"].shape == (4, 160, 3)
    assert not [n for n in tensors if n.startswith("lm_head.weight")]  # tied: once
    size = (folder / checkpoint.FILE).stat().st_size
    assert lowbit.measure(model).bytes < size < lowbit.measure(model).bytes + 16384
    with safe_open(folder / checkpoint.FILE, framework="pt") as file:
        header = json.loads(file.metadata()["lowbit"])
    assert header["layout_version"] == checkpoint.LAYOUT_VERSION


def test_a_model_that_is_not_of_transformers(tmp_path):
    def fresh():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 7))

    model = fresh()
    lowbit.quantize(model, "w4a16-g64", progress=False)
    lowbit.save(model, tmp_path / "m")
    with pytest.raises(ValueError, match="into must be given"):
        lowbit.load(tmp_path / "m")
    loaded = lowbit.load(tmp_path / "m", into=fresh())
    x = torch.randn(3, 20)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    other = nn.Sequential(nn.Linear(20, 41), nn.ReLU(), nn.Linear(41, 7))
    with pytest.raises(ValueError, match="must fit the model, got a mismatch"):
        lowbit.load(tmp_path / "m", into=other)
    assert type(other[0]) is nn.Linear


def test_state_dict_goes_from_model_to_model(saved):
    model, folder = saved
    other = lowbit.load(folder)
    for module in other.modules():
        if isinstance(module, QuantLinear):
            module.weight.codes.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(other, IDS), logits(model, IDS))


# --- damage -----------------------------------------------------------------------------------------------------------


def rewrite(folder, change):
    """Reads tensors and header, lets `change` edit both, writes them back."""
    path = folder / checkpoint.FILE
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    header = json.loads(metadata["lowbit"])
    change(tensors, header)
    header["tensors_sha256"] = checkpoint._digest_of(tensors)
    save_file(tensors, path, {**metadata, "lowbit": json.dumps(header)})


def damaged(folder, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        lowbit.load(folder)
    assert str(caught.value).startswith("load: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_truncated(saved, keep):
    path = saved[1] / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:keep])
    damaged(saved[1], "must be a whole file that lowbit.save wrote, got a damaged one")


def test_corrupted_header(saved):
    path = saved[1] / checkpoint.FILE
    data = bytearray(path.read_bytes())
    data[20:60] = b"x" * 40
    path.write_bytes(bytes(data))
    damaged(saved[1], "got a damaged one")


@pytest.mark.parametrize("at", [-1, -1000, -9000])
def test_corrupted_tensors(saved, at):
    path = saved[1] / checkpoint.FILE
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
    damaged(saved[1], "got a damaged one .its tensors are not those that were saved.; copy or save it again")


def test_a_newer_version(saved):
    rewrite(saved[1], lambda tensors, header: header.update(layout_version=checkpoint.LAYOUT_VERSION + 1))
    damaged(saved[1], "must have layout version 1 or older, got 2; update lowbit")


def test_another_safetensors_file(saved):
    save_file({"a": torch.ones(1)}, saved[1] / checkpoint.FILE)
    damaged(saved[1], "got a damaged one")


NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t, h: t.pop(f"{NAME}.scale"), "mismatch"),
        (lambda t, h: t.pop("model.norm.weight"), "model.norm.weight must be"),
        (lambda t, h: t[f"{NAME}.scale"].fill_(float("nan")), "scale must be finite"),
        (lambda t, h: t.update({f"{NAME}.codes": t[f"{NAME}.codes"][:3].clone()}), "codes must be"),
        (lambda t, h: t.update({"model.norm.weight": torch.ones(5)}), "model.norm.weight must be"),
        (lambda t, h: t.update({"stray": torch.ones(5)}), "no place for stray"),
        (lambda t, h: h["weights"][NAME].update(format="int8:rwo"), "must have a block rule"),
        (lambda t, h: h["modules"].update({"model.absent": h["modules"]["lm_head"]}), "mismatch"),
        (lambda t, h: h["weights"][NAME].pop("shape"), "mismatch"),
    ],
)
def test_contents_that_do_not_fit(saved, change, sentence):
    rewrite(saved[1], change)
    damaged(saved[1], sentence)


def test_another_config(saved):
    path = saved[1] / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"hidden_size": 48}))
    damaged(saved[1], "must be the one that lowbit.safetensors was saved with, got another")
    path.unlink()
    damaged(saved[1], "got none; copy the whole folder again")


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder must hold lowbit.safetensors"):
        lowbit.load(tmp_path)


# --- saving -----------------------------------------------------------------------------------------------------------


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_saving_over_an_older_checkpoint(saved):
    other = quantized("w8a16", seed=5)
    lowbit.save(other, saved[1])
    assert torch.equal(logits(lowbit.load(saved[1]), IDS), logits(other, IDS))
    assert not [p for p in saved[1].iterdir() if p.name.startswith(".")]


def test_refuses_a_float_model_and_foreign_folders(tmp_path, saved):
    with pytest.raises(ValueError, match="model must be quantized, got LlamaForCausalLM"):
        lowbit.save(tiny_llama(), tmp_path / "float")
    assert not (tmp_path / "float").exists()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be new, empty or a checkpoint of lowbit"):
        lowbit.save(saved[0], tmp_path / "foreign")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="must be a folder, got the file"):
        lowbit.save(saved[0], tmp_path / "file")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("step", ["tensors", "config"])
def test_failing_to_write_leaves_the_old_files(saved, interrupt, step, monkeypatch):
    _, folder = saved
    before = contents(folder)
    other = quantized("w8a16")

    def fail(*args, **kwargs):
        raise interrupt

    if step == "tensors":
        monkeypatch.setattr(checkpoint, "_write_tensors", fail)
    else:
        monkeypatch.setattr(type(other.config), "save_pretrained", fail)
    with pytest.raises(interrupt if isinstance(interrupt, type) else OSError):
        lowbit.save(other, folder)
    assert contents(folder) == before
    with pytest.raises(interrupt if isinstance(interrupt, type) else OSError):
        lowbit.save(other, folder.parent / "new")
    assert not (folder.parent / "new").exists()


def test_an_interrupt_between_renames_waits(saved, monkeypatch):
    """Files of two models in one folder would be none."""
    other, rename = quantized("w8a16", seed=5, mlp=96), os.replace

    def replace(source, target):
        signal.raise_signal(signal.SIGINT)
        rename(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", replace)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            lowbit.save(other, saved[1])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.equal(logits(lowbit.load(saved[1]), IDS), logits(other, IDS))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB; where mounting is not allowed, a limit on the size of files does the same."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    yield mount if done.returncode == 0 else None
    if done.returncode == 0:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk(saved, small_disk):
    if small_disk is None:
        pytest.skip("mounting a small file system needs root; test_failing_to_write holds the rest")
    model, folder = saved
    old = small_disk / "model"
    shutil.copytree(folder, old)
    before = contents(old)
    fill = small_disk / "fill"
    with open(fill, "wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            if os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize < 8192:
                break
    os.truncate(fill, fill.stat().st_size - 16384)
    with pytest.raises(OSError, match=r"save: the disk is full; .* is as it was before; free some space"):
        lowbit.save(quantized("w8a16", layers=4), old)
    assert contents(old) == before
    assert torch.equal(logits(lowbit.load(old), IDS), logits(model, IDS))


def test_copies_of_a_quantized_model_can_be_saved(saved, tmp_path):
    copied = copy.deepcopy(saved[0])
    lowbit.save(copied, tmp_path / "copy")
    assert (tmp_path / "copy" / checkpoint.FILE).read_bytes() == (saved[1] / checkpoint.FILE).read_bytes()
