"""``lowbit.save`` and ``lowbit.load``: a quantized model as a folder.

The folder holds ``lowbit.safetensors``, transformers' ``config.json`` and ``generation_config.json``, and the files of
the tokenizer. The tensors are in canonical layouts under the names of the state dict. The header of the file holds, as
JSON under "lowbit": the layout version, the recipe, the digests of config.json and of the tensors, and what stands
where a linear, an embedding or a norm stood.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lowbit.nn import Edits, QuantEmbedding, QuantLayer, QuantLinear, QuantWeight, RotatedLinear, Unrotate, swap
from lowbit.tensor import QuantTensor

FILE = "lowbit.safetensors"
LAYOUT_VERSION = 1


def is_checkpoint(folder: str | os.PathLike[str]) -> bool:
    """Whether `folder` is one that `save` wrote."""
    return (Path(folder) / FILE).is_file()


def save(model: nn.Module, folder: str | os.PathLike[str], *, tokenizer: Any = None) -> None:
    """Writes a quantized model to `folder`. Files are written beside the old ones and renamed when all are whole.

    Args:
        model: one that ``lowbit.quantize`` or ``lowbit.load`` gave.
        folder: new, empty, or one that `save` wrote before.
        tokenizer: of transformers; saved too, so that ``lowbit eval`` finds it.

    Raises:
        ValueError: the model is not quantized, or `folder` holds something else.
        OSError: the disk is full, or another failure to write; what was there before is left as it was.
    """
    target = Path(folder)
    if not any(isinstance(m, QuantWeight) for m in model.modules()):
        raise ValueError(
            f"save: model must be quantized, got {type(model).__name__} without quantized weights; "
            "call lowbit.quantize first"
        )
    if target.exists() and not target.is_dir():
        raise ValueError(f"save: folder must be a folder, got the file {str(target)!r}; choose another name")
    if target.is_dir() and not is_checkpoint(target) and any(target.iterdir()):
        raise ValueError(
            f"save: folder must be new, empty or a checkpoint of lowbit, got {str(target)!r} with other files; "
            "choose another name"
        )
    made = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=target) as beside:
            _write(model, tokenizer, Path(beside))
            with _interrupts_wait():
                for path in sorted(Path(beside).iterdir(), key=lambda p: p.name == FILE):  # the weights come last
                    os.replace(path, target / path.name)
    except BaseException as error:
        if made:
            with contextlib.suppress(OSError):
                target.rmdir()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise OSError(
                errno.ENOSPC, f"save: the disk is full; {str(target)!r} is as it was before; free some space"
            ) from error
        raise


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C takes effect after the body: between two renames it would leave files of two models."""
    if threading.current_thread() is not threading.main_thread():  # the others are never interrupted
        yield
        return
    arrived: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if arrived:
            signal.raise_signal(signal.SIGINT)


def _write(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    header: dict[str, Any] = {
        "layout_version": LAYOUT_VERSION,
        "recipe": getattr(model, "lowbit_recipe", None),
        **_describe(model),
    }
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "save_pretrained"):
        config.save_pretrained(folder)
        header["config_sha256"] = _digest(folder / "config.json")
        if getattr(model, "generation_config", None) is not None:
            model.generation_config.save_pretrained(folder)  # type: ignore[union-attr, operator]
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    tensors = _tensors(model)
    header["tensors_sha256"] = _digest_of(tensors)
    _write_tensors(tensors, {"lowbit": json.dumps(header)}, folder / FILE)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without the second copies of shared weights."""
    shared = {name for name, first in _aliases(model).items() if name != first}
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not any(name.startswith(prefix + ".") or name == prefix for prefix in shared):
            state[name] = tensor.detach().contiguous()
    # buffers that a model computes follow its dtype: what it computed is what it must compute with again
    for name, buffer in model.named_buffers():
        leaf = name.rpartition(".")[2]
        if name not in state and leaf in model.get_submodule(name.rpartition(".")[0])._non_persistent_buffers_set:
            state.setdefault(name, buffer.detach().contiguous())
    return state


def _aliases(model: nn.Module) -> dict[str, str]:
    """Every name of a quantized weight or parameter -> the first name of the same."""
    first: dict[int, str] = {}
    out = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, QuantWeight):
            out[name] = first.setdefault(id(module), name)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        out[name] = first.setdefault(id(parameter), name)
    return out


def _describe(model: nn.Module) -> dict[str, Any]:
    """What was put into the model, by name: enough to put it into a fresh one.

    "weights" are the quantized ones: format, shape and which tensors they are made of. "modules" are the modules that
    hold them (tied ones the same), and the ends of rotated streams.
    """
    aliases = _aliases(model)
    weights: dict[str, Any] = {}
    out: dict[str, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, QuantLinear | QuantEmbedding):
            weight = module.weight
            first = aliases[f"{name}.weight"]
            parts = sorted(part for part, tensor in weight.named_buffers() if tensor is not None)
            weights[first] = {"format": weight.spec.text, "shape": [weight.rows, weight.cols], "parts": parts}
            out[name] = {"type": type(module).__name__, "weight": first}
            if isinstance(module, QuantLinear):
                out[name] |= {"x_format": module.x_format, "hadamard": module.hadamard, "sign": module.sign is not None}
        elif isinstance(module, Unrotate):
            out[name] = {"type": "Unrotate", "hadamard": module.hadamard, "sign": module.sign is not None}
    return {"weights": weights, "modules": out}


def load(folder: str | os.PathLike[str], *, into: nn.Module | None = None) -> nn.Module:
    """Reads a quantized model from `folder`, in eval mode.

    Args:
        into: a model of the same structure that is not quantized, to be filled; needed where the model is not one of
            transformers. None: transformers builds it from config.json, its float weights never allocated.

    Raises:
        FileNotFoundError: `folder` is no checkpoint.
        ValueError: the file is truncated, corrupted, of a newer version, or does not fit the model.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"load: folder must hold {FILE}, got {str(folder)!r}; give a folder that lowbit.save wrote"
        )
    header, tensors = _read(path)
    if into is None:
        into = _skeleton(Path(folder), header)
    edits = Edits(into)
    try:
        _fill(edits, header, tensors)
    except BaseException as error:
        edits.undo()
        if isinstance(error, ValueError | KeyError | TypeError | AttributeError | RuntimeError):
            raise ValueError(
                f"load: {str(path)!r} must fit the model, got a mismatch ({error}); save it again"
            ) from error
        raise
    into.lowbit_recipe = header.get("recipe")  # type: ignore[assignment]
    return into.eval()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file, checked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["lowbit"])
            version = header["layout_version"]
            if not isinstance(version, int) or version > LAYOUT_VERSION:
                raise _Newer(version)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            assert isinstance(header["modules"], dict)
            assert isinstance(header["weights"], dict)
            if _digest_of(tensors) != header["tensors_sha256"]:
                raise ValueError("its tensors are not those that were saved")
    except _Newer as error:
        raise ValueError(
            f"load: {str(path)!r} must have layout version {LAYOUT_VERSION} or older, got {error}; update lowbit"
        ) from None
    except (SafetensorError, KeyError, ValueError, TypeError, AssertionError, EOFError) as error:
        raise ValueError(
            f"load: {str(path)!r} must be a whole file that lowbit.save wrote, got a damaged one ({error}); "
            "copy or save it again"
        ) from error
    return header, tensors


class _Newer(Exception):
    """The layout version of a file from the future."""


def _skeleton(folder: Path, header: dict[str, Any]) -> nn.Module:
    """The model of config.json with parameters that hold no memory yet."""
    from lowbit.integrations.transformers import require_transformers

    config_path = folder / "config.json"
    if "config_sha256" not in header:
        raise ValueError(
            f"load: into must be given for {str(folder)!r}, whose model is not one of transformers, got None; "
            "build the model and pass it"
        )
    if not config_path.is_file() or _digest(config_path) != header["config_sha256"]:
        raise ValueError(
            f"load: {str(config_path)!r} must be the one that {FILE} was saved with, got "
            f"{'another' if config_path.is_file() else 'none'}; copy the whole folder again"
        )
    transformers = require_transformers("load")
    config = transformers.AutoConfig.from_pretrained(folder)
    with _parameters_on_meta():
        model = transformers.AutoModelForCausalLM.from_config(config)
    if (folder / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return model


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """New parameters have a shape and no memory; buffers, which a model computes, are real."""
    register: Callable[..., None] = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _fill(edits: Edits, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Puts the quantized modules and the other tensors into a fresh model."""
    model = edits.model
    modules = header["modules"]
    used: set[str] = set()
    weights: dict[str, QuantTensor] = {}
    for name, row in header["weights"].items():
        parts = {part: tensors[f"{name}.{part}"] for part in row["parts"]}
        rows, cols = row["shape"]
        weights[name] = QuantTensor.from_state_dict(parts, row["format"], (rows, cols))
        used.update(f"{name}.{part}" for part in parts)
    layers: dict[str, QuantLayer] = {}
    for name, row in modules.items():
        if row["type"] == "Unrotate":
            edits.replace(model.get_submodule(name), Unrotate(model.get_submodule(name), row["hadamard"], None))
            continue
        layers[name] = QuantLayer(weights[row["weight"]], row.get("x_format"))
        if row.get("hadamard"):
            old: Any = model.get_submodule(name)
            edits.replace(old, RotatedLinear(old.weight, old.bias, row["hadamard"], None))
    swap(edits, layers)
    _fill_rest(edits, modules, {name: t for name, t in tensors.items() if name not in used})


def _fill_rest(edits: Edits, modules: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Signs, norms, biases and whatever else was not quantized."""
    model = edits.model
    for name, row in modules.items():
        if row.get("sign"):
            edits.set_buffer(model.get_submodule(name), "sign", tensors.pop(f"{name}.sign"))
    aliases = _aliases(model)
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        saved = tensors.get(aliases[name])
        if saved is None or saved.shape != parameter.shape:
            got = "none" if saved is None else list(saved.shape)
            raise ValueError(f"{name} must be {list(parameter.shape)}, got {got}")
        owner, _, leaf = name.rpartition(".")
        edits.set_parameter(model.get_submodule(owner), leaf, saved)
    for name, buffer in list(model.named_buffers()):
        if name in tensors and name not in aliases:
            owner, _, leaf = name.rpartition(".")
            if buffer.shape != tensors[name].shape:
                raise ValueError(f"{name} must be {list(buffer.shape)}, got {list(tensors[name].shape)}")
            edits.set_buffer(model.get_submodule(owner), leaf, tensors[name])
    known = {n for n, _ in model.named_buffers()} | set(aliases)
    unknown = sorted(set(tensors) - known)
    if unknown:
        raise ValueError(f"the model has no place for {unknown[0]}")


def _write_tensors(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        # its own kind of error, whatever the cause; the cause is in the sentence
        full = "No space left" in str(error) or "os error 28" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, f"save: {error}") from error
    path.chmod(0o644)  # it comes readable for its owner alone
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _digest_of(tensors: dict[str, Tensor]) -> str:
    """Of the names and bytes of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
