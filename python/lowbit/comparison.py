"""One language model under several recipes, measured side by side."""

import contextlib
import copy
import ctypes
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from lowbit import accounting, checkpoint, evaluation, recipes
from lowbit.calibration import Statistics, calibrate
from lowbit.integrations.transformers import demo_model, load_model
from lowbit.nn import QuantWeight
from lowbit.progress import bar
from lowbit.quantization import quantize
from lowbit.text import default_text, read_text

_FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Row:
    """A model under a recipe; `fp32` and `bf16` are PyTorch's own linears in that dtype.

    bits: true bits per weight, everything that is stored counted. bytes: of the safetensors files.
    quantize_s: seconds that the recipe took, calibration apart.
    """

    recipe: str
    bits: float
    bytes: int
    perplexity: float
    prefill_tok_s: float
    decode_tok_s: float
    quantize_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: a perplexity that is no finite number is None."""
        values = dataclasses.asdict(self)
        return values | {"perplexity": self.perplexity if math.isfinite(self.perplexity) else None}


def check_names(names: Sequence[str]) -> None:
    """ValueError, with the nearest name, unless every name is a recipe, fp32 or bf16."""
    for name in names:
        if name not in _FLOATS:
            recipes.get(name)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model in fp32 (or a quantized one, as it was saved), the windows that judge it, the text that calibrates it.

    batches: [count, window] token ids; the first window is also the prompt of the speeds. calibration: the text for
    recipes with statistics.
    """

    model: nn.Module
    tokenizer: Any
    batches: Tensor
    calibration: str

    @staticmethod
    def load(
        source: str | None = None,
        *,
        text: Path | None = None,
        calibration: Path | None = None,
        tokens: int = evaluation.TOKENS,
    ) -> "Subject":
        """Reads the model `source` (None: the demo's) and the texts (None: parts of Python's documentation).
        ValueError for a text that is too short; nothing was computed then."""
        model, tokenizer = demo_model() if source is None else load_model(source)
        if tokenizer is None:
            raise ValueError(f"eval: model must come with a tokenizer, got none in {source}; save one beside it")
        evaluated = default_text("evaluation") if text is None else read_text(text)
        calibrating = default_text("calibration") if calibration is None else read_text(calibration)
        ids = torch.tensor(tokenizer(evaluated, add_special_tokens=False, verbose=False)["input_ids"])
        return Subject(model, tokenizer, evaluation.windows(ids, tokens), calibrating)

    @property
    def is_quantized(self) -> bool:
        return _is_quantized(self.model)


def compare(
    subject: Subject,
    names: Sequence[str],
    *,
    progress: bool = True,
    share_calibration: bool = False,
    made: Callable[[str, nn.Module], None] | None = None,
) -> list[Row]:
    """Measures the subject's model, which must not be quantized, and copies of it under the recipes `names`.

    The first row is fp32. All models stay in memory, since their speeds are measured in turns.

    Args:
        names: of recipes; `bf16` among them is the model in bfloat16.
        share_calibration: collect the statistics of the float model once for all recipes that leave it as it is, in
            place of each recipe's own, behind its quantized blocks. Much faster; not the bits of ``lowbit quantize``.
        made: told the name and the model of each row as soon as it is made.
    """
    check_names(names)
    statistics: Statistics | None = None
    wanted = ["fp32", *(n for n in dict.fromkeys(names) if n != "fp32")]
    chosen = {name: recipes.get(name) for name in wanted if name not in _FLOATS}
    models: dict[str, nn.Module] = {}
    measured: dict[str, dict[str, Any]] = {}
    for name in wanted:
        start = time.perf_counter()
        model = subject.model if name == "fp32" else copy.deepcopy(subject.model)
        if name in chosen:
            recipe = chosen[name]
            data: Statistics | str = subject.calibration
            if share_calibration and recipe.needs_calibration and recipe.transform is None:
                if statistics is None:
                    statistics = calibrate(model, data, tokenizer=subject.tokenizer, progress=progress)
                    start = time.perf_counter()
                data = statistics
            quantize(model, recipe, calibration=data, tokenizer=subject.tokenizer, progress=progress)
        else:
            model.to(_FLOATS[name])
        seconds = time.perf_counter() - start if name in chosen else 0.0
        if made is not None:
            made(name, model)
        measured[name] = _judge(name, model, subject.batches, progress) | {"quantize_s": seconds}
        models[name] = model
        _give_memory_back()
    return _with_speeds(models, measured, subject.batches[:1], progress)


def measure(subject: Subject, *, progress: bool = True) -> Row:
    """The row of the subject's quantized model as it is."""
    recipe: Any = subject.model.lowbit_recipe
    name = str(recipe["name"])
    measured = {name: _judge(name, subject.model, subject.batches, progress)}
    return _with_speeds({name: subject.model}, measured, subject.batches[:1], progress)[0]


def _give_memory_back() -> None:
    """glibc keeps the pages of a freed model's many small blocks, once for every copy; here they return."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _is_quantized(model: nn.Module) -> bool:
    return any(isinstance(module, QuantWeight) for module in model.modules())


def _save(model: nn.Module, folder: Path) -> None:
    if _is_quantized(model):
        checkpoint.save(model, folder)
    else:
        folder.mkdir()
        save_model(model, str(folder / "model.safetensors"))


def _judge(name: str, model: nn.Module, batches: Tensor, progress: bool) -> dict[str, Any]:
    with bar(f"perplexity {name}", len(batches), show=progress) as advance:
        value = evaluation.perplexity(model, batches, advance)
    return {"perplexity": value, "bytes": evaluation.disk_bytes(model, _save)}


def _with_speeds(
    models: dict[str, nn.Module], measured: dict[str, dict[str, Any]], prompt: Tensor, progress: bool
) -> list[Row]:
    with bar("speed, in turns", len(models) * (evaluation.ROUNDS + 1), show=progress) as advance:
        speeds = evaluation.speeds(models, prompt, evaluation.GENERATED, evaluation.ROUNDS, advance)
    return [
        Row(
            recipe=name,
            bits=accounting.measure(model).bits,
            prefill_tok_s=speeds[name].prefill,
            decode_tok_s=speeds[name].decode,
            **measured[name],
        )
        for name, model in models.items()
    ]
