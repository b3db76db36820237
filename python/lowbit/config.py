"""What a quantization is: frozen objects that cannot hold a combination that does not exist.

A `Recipe` is data. It says which transform the model gets first, how weights are rounded, in which format weights and
activations are, and what the embedding and the head get; ``lowbit.quantize`` carries it out. Wrong values are refused
when the object is made, with the rule and the way out.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from lowbit.spec import FormatSpec

SCALE_DTYPES = ("float32", "bfloat16", "float16")


def _refuse(owner: str, argument: str, rule: str, got: object, way_out: str) -> None:
    raise ValueError(f"{owner}: {argument} must be {rule}, got {got!r}; {way_out}")


@dataclasses.dataclass(frozen=True)
class WeightConfig:
    """The format of a weight.

    Args:
        format: a format string with its block rule: ``"uint4:g64"``, ``"int8:row"``, ``"nvfp4"``.
        scale_dtype: of float scales: float32, bfloat16 or float16. Formats with coded scales take none: leave it None.
        asymmetric: a zero point per block beside the scale; unsigned integers need it, others cannot have one.
    """

    format: str
    scale_dtype: str | None = None
    asymmetric: bool = False

    def __post_init__(self) -> None:
        spec = FormatSpec.parse(self.format, "weight format")
        if spec.layout != "canonical":
            _refuse("WeightConfig", "format", "without a layout", self.format, f'write "{spec.text}"')
        if spec.is_complex or spec.kind == "codebook":
            _refuse(
                "WeightConfig",
                "format",
                "an integer, float or nf4 format",
                self.format,
                "codebook and complex weights are made with lowbit.QuantTensor and the ops",
            )
        if self.asymmetric != (spec.kind == "unsigned"):
            other = "asymmetric=True" if spec.kind == "unsigned" else "asymmetric=False or an unsigned format"
            _refuse(
                "WeightConfig",
                "asymmetric",
                "True for unsigned formats and False for all others",
                self.asymmetric,
                f'use {other} with "{self.format}"',
            )
        if spec.scale is None and self.scale_dtype is None:
            object.__setattr__(self, "scale_dtype", "float16" if spec.kind in ("signed", "unsigned") else "float32")
        if spec.scale is not None and self.scale_dtype is not None:
            _refuse(
                "WeightConfig",
                "scale_dtype",
                f"None where the format fixes its scales ({spec.scale})",
                self.scale_dtype,
                "leave it out",
            )
        if spec.scale is None and self.scale_dtype not in SCALE_DTYPES:
            _refuse("WeightConfig", "scale_dtype", f"one of {SCALE_DTYPES}", self.scale_dtype, "use float16")

    @property
    def spec(self) -> FormatSpec:
        return FormatSpec.parse(self.format)


@dataclasses.dataclass(frozen=True)
class ActivationConfig:
    """The format of the inputs of the linears, quantized while the model runs, from their own range (dynamic).

    Args:
        format: a format string, ``"int8:row"`` for one scale a token; its groups go along the input features.
    """

    format: str

    def __post_init__(self) -> None:
        spec = FormatSpec.parse(self.format, "activation format")
        if spec.layout != "canonical":
            _refuse("ActivationConfig", "format", "without a layout", self.format, f'write "{spec.text}"')
        if spec.kind not in ("signed", "float"):
            _refuse(
                "ActivationConfig",
                "format",
                "a signed integer, a float or a block format",
                self.format,
                'use for instance "int8:row", "float8_e4m3fn:row" or "mxfp8_e4m3"',
            )
        if spec.block_rows != 1 and not spec.two_level:
            _refuse(
                "ActivationConfig",
                "format",
                "scaled per token, so that a token's result does not depend on its neighbours",
                self.format,
                'use ":row" or ":g<N>"',
            )

    @property
    def spec(self) -> FormatSpec:
        return FormatSpec.parse(self.format)


@dataclasses.dataclass(frozen=True)
class MinMax:
    """The grid that covers the whole range of each block."""


@dataclasses.dataclass(frozen=True)
class ClipSearch:
    """The grid, among shrunken min-max grids of each block, with the least sum of |error|^norm.

    Args:
        norm: exponent of the error; 2 is the squared error, GPTQ's code uses 2.4.
        steps: shrink factors tried, evenly spaced between `smallest` and 1.
        smallest: the smallest factor.
    """

    norm: float = 2.0
    steps: int = 10
    smallest: float = 0.6

    def __post_init__(self) -> None:
        if not self.norm > 0:
            _refuse("ClipSearch", "norm", "positive", self.norm, "use 2")
        if self.steps < 1:
            _refuse("ClipSearch", "steps", "at least 1", self.steps, "use 10, or MinMax() for no search")
        if not 0 < self.smallest <= 1:
            _refuse("ClipSearch", "smallest", "in (0, 1]", self.smallest, "use 0.6")


Grid = MinMax | ClipSearch


@dataclasses.dataclass(frozen=True)
class RTN:
    """Round every weight to the nearest point of its grid. Needs no data."""

    needs_calibration = False


@dataclasses.dataclass(frozen=True)
class GPTQ:
    """Error feedback with the inverse Hessian of the layer's inputs (Frantar et al. 2022).

    Args:
        act_order: visit the columns by falling diagonal of the Hessian.
        static_groups: take all grids from the original weights; else each from the weights as they are when its first
            column is reached (which act_order cannot do).
        damping: added to the diagonal, relative to its mean.
        block: columns between two updates of the rest.
    """

    act_order: bool = True
    static_groups: bool = True
    damping: float = 0.01
    block: int = 128
    needs_calibration = True

    def __post_init__(self) -> None:
        if self.act_order and not self.static_groups:
            _refuse(
                "GPTQ",
                "static_groups",
                "True with act_order, whose columns do not arrive in groups",
                self.static_groups,
                "use act_order=False for dynamic groups",
            )
        if not self.damping > 0:
            _refuse("GPTQ", "damping", "positive", self.damping, "use 0.01")
        if self.block < 1:
            _refuse("GPTQ", "block", "at least 1", self.block, "use 128")


Rounding = RTN | GPTQ


@dataclasses.dataclass(frozen=True)
class HadamardRotation:
    """Rotate the residual stream, the values of every head and the inputs of the projections back into the stream by
    random Hadamard matrices (QuaRot, Ashkboos et al. 2024), so that no channel stands out. Equivalent in full
    precision.

    Args:
        seed: of the random signs.
    """

    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to quantize a model: every linear, the head and the embedding.

    Args:
        name: starts with the widths, ``w<bits>a<bits>``: those of the formats, 16 for float activations.
        summary: one line for people.
        weight: format of the weights of the linears.
        activation: format of their inputs; None leaves the inputs as they are (16 or 32 bits).
        grid: how the range of a block is chosen.
        rounding: how a weight finds its code on the grid.
        transform: what is done to the model first.
        head: format of the head and of the embedding, which share one weight when they are tied; None: as `weight`.
        head_activation: format of the inputs of the head; None: as `activation`.
    """

    name: str
    summary: str
    weight: WeightConfig
    activation: ActivationConfig | None = None
    grid: Grid = MinMax()
    rounding: Rounding = RTN()
    transform: HadamardRotation | None = None
    head: WeightConfig | None = None
    head_activation: ActivationConfig | None = None

    def __post_init__(self) -> None:
        widths = f"w{self.weight.spec.bits}a{self.activation.spec.bits if self.activation else 16}"
        if re.match(r"w\d+a\d+(?=-|$)", self.name) is None or self.name.split("-")[0] != widths:
            _refuse(
                "Recipe", "name", f'"{widths}" or start with "{widths}-"', self.name, "the name tells the widths first"
            )
        spec = self.weight.spec
        if isinstance(self.grid, ClipSearch) and (spec.scale is not None or spec.block_rows != 1):
            _refuse(
                "Recipe",
                "grid",
                "MinMax() for formats with coded scales or blocks of several rows",
                self.grid,
                "the search needs float scales for every row",
            )
        if isinstance(self.rounding, GPTQ) and not self.rounding.static_groups and isinstance(self.grid, ClipSearch):
            _refuse(
                "Recipe",
                "grid",
                "MinMax() with dynamic groups, whose grids are made while the columns move",
                self.grid,
                "use GPTQ(static_groups=True) for a searched grid",
            )
        if isinstance(self.rounding, GPTQ) and not self.rounding.static_groups and spec.scale is not None:
            _refuse(
                "Recipe",
                "rounding",
                "GPTQ(static_groups=True) for formats with coded scales",
                self.rounding,
                "dynamic groups need float scales",
            )

    @property
    def head_weight(self) -> WeightConfig:
        return self.head if self.head is not None else self.weight

    @property
    def head_input(self) -> ActivationConfig | None:
        return self.head_activation if self.head_activation is not None else self.activation

    @property
    def needs_calibration(self) -> bool:
        """Whether ``lowbit.quantize`` needs text."""
        return self.rounding.needs_calibration

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-ready values; `from_dict` is the inverse."""
        out: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = {"type": type(value).__name__, **dataclasses.asdict(value)}
            out[field.name] = value
        return out

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Recipe:
        """Reads what `to_dict` wrote. Raises ValueError for a part that this version does not know."""

        def part(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            kind = _PARTS.get(value.get("type", ""))
            if kind is None:
                _refuse("Recipe", "part", f"one of {sorted(_PARTS)}", value.get("type"), "update lowbit")
            return kind(**{k: v for k, v in value.items() if k != "type"})  # type: ignore[misc]

        return Recipe(**{k: part(v) for k, v in values.items()})


_PARTS: dict[str, Any] = {
    c.__name__: c for c in (WeightConfig, ActivationConfig, MinMax, ClipSearch, RTN, GPTQ, HadamardRotation)
}
