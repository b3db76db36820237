"""The commands of `lowbit`. What people read goes to the terminal with progress on stderr; `--json` prints JSON alone
on stdout. An error is one sentence on stderr and status 2; Ctrl-C leaves status 130 and nothing half-written.

Each command imports what it needs of `lowbit` when it runs; nothing here imports it at the top.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

ERROR = 2
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _file(name: str, help: str) -> Any:
    return click.option(name, type=click.Path(exists=True, dir_okay=False, path_type=Path), help=help)


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else there.")
_calibration = _file(
    "--calibration",
    "UTF-8 text whose activations guide the rounding, for recipes that use any.  "
    "[default: a part of Python's own documentation]",
)
_threads = click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: PyTorch's choice]")


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="lowbit", message="lowbit %(version)s")
def cli() -> None:
    """Language models with weights and activations of 1 to 8 bits.

    \b
      lowbit eval                                           compare recipes on the demo's small model
      lowbit quantize MODEL --recipe w4a16-g64 --out DIR    write a quantized copy of a model
      lowbit eval --model DIR                               perplexity, size and speed of what was written
      lowbit bench                                          times of the kernels
      lowbit info                                           recipes, formats, and what this machine can run
    """


@cli.command()
@click.argument("model")
@click.option("--recipe", required=True, help="What is done to the weights, for instance w4a16-g64.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@_calibration
@_threads
@_json
def quantize(model: str, recipe: str, out: Path, calibration: Path | None, threads: int | None, as_json: bool) -> None:
    """Write a quantized copy of MODEL to a folder.

    MODEL is a folder or hub id that transformers reads, a .gguf file, or the word demo for the demo's model. A recipe
    is named by its widths first: w4a16 has weights of 4 bits and activations of 16; `lowbit info` lists them all. The
    folder is complete or not there: stopping half-way leaves nothing, and an older model in it as it was.
    """
    from lowbit import checkpoint, display, recipes
    from lowbit.integrations.transformers import demo_model, load_model
    from lowbit.quantization import quantize as run
    from lowbit.text import default_text, read_text

    _set_threads(threads)
    chosen = recipes.get(recipe)
    text = default_text("calibration") if calibration is None else read_text(calibration)
    loaded, tokenizer = demo_model() if model == "demo" else load_model(model)
    report = run(loaded, chosen, calibration=text, tokenizer=tokenizer)
    checkpoint.save(loaded, out, tokenizer=tokenizer)
    if as_json:
        _print_json(report.to_dict())
    else:
        display.show(display.report_table(report))
        click.echo(f"{out}: {display.megabytes(report.bytes)}, {report.bits:.3f} bits per weight")


@cli.command("eval")
@_file("--text", "UTF-8 text to predict.  [default: a part of Python's own documentation]")
@click.option(
    "--model",
    help="A folder that `lowbit quantize` wrote, a folder or hub id that transformers reads, or a .gguf file.  "
    "[default: the demo's model]",
)
@click.option(
    "--recipe",
    "names",
    multiple=True,
    help="A recipe to compare with fp32; may be given many times. bf16 is PyTorch in that dtype.  "
    "[default: those of the demo, where no --model is given]",
)
@_calibration
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens to predict, at least.  [default: 16384]")
@_threads
@_json
def evaluate(
    text: Path | None,
    model: str | None,
    names: tuple[str, ...],
    calibration: Path | None,
    tokens: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare perplexity, size and speed of a model under recipes.

    The first row is the model in fp32. Perplexity is over windows of 512 tokens. Speed is that of one generate loop,
    in which all rows take turns: prefill reads a prompt of 512 tokens at once, decode makes tokens one at a time. A
    model that is quantized already is the only row, under the name of its recipe.
    """
    from lowbit import comparison, demo, display, evaluation

    _set_threads(threads)
    comparison.check_names(names)
    subject = comparison.Subject.load(model, text=text, calibration=calibration, tokens=tokens or evaluation.TOKENS)
    if subject.is_quantized:
        if names:
            raise ValueError(
                f"eval: --model must not be quantized where recipes are given, got {model}; leave --recipe out"
            )
        rows = [comparison.measure(subject)]
    else:
        if names or model is not None:
            rows = comparison.compare(subject, names)
        else:
            rows = comparison.compare(subject, demo.RECIPES, share_calibration=True)
    if as_json:
        _print_json({"rows": [row.to_dict() for row in rows]})
    else:
        display.show(display.rows_table(rows))


def _shape(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[tuple[int, int, int]]:
    shapes = []
    for value in values:
        parts = value.lower().split("x")
        if len(parts) != 3 or not all(p.isdecimal() and int(p) > 0 for p in parts):
            raise click.BadParameter(f"must be MxNxK, for instance 1x4096x4096, got {value!r}", context, option)
        m, n, k = map(int, parts)
        shapes.append((m, n, k))
    return shapes


@cli.command()
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=_shape,
    metavar="MxNxK",
    help=(
        "Rows of the activation, rows and columns of the weight; may be given many times.  "
        "[default: 1x4096x4096 and 512x4096x4096]"
    ),
)
@click.option("--weight", "weights", multiple=True, help="Weight format, such as int4:g64; may be given many times.")
@click.option(
    "--activation",
    "activations",
    multiple=True,
    help=("fp32, bf16, or the format that the call quantizes it to, such as int8:row; may be given many times."),
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    help="Calls of each; the median counts.  [default: 30 for at most 16 rows, else 5]",
)
@click.option("--canonical", is_flag=True, help="Weights as checkpoints hold them, not prepacked as modules do.")
@click.option(
    "--predict",
    is_flag=True,
    help="No times: what bounds the CUDA kernels, by counts of the PTX emulator. Needs a source tree and no GPU.",
)
@click.option(
    "--arch",
    "archs",
    multiple=True,
    type=click.Choice(["80", "86", "89", "90", "120", "121"]),
    help="Compute capability to predict for; may be given many times.  [default: those that were built]",
)
@click.option(
    "--op",
    "names",
    multiple=True,
    type=click.Choice(["gemm", "hadamard", "quantize", "dequantize", "stochastic_round", "pack"]),
    help="What to predict; may be given many times. hadamard is of the activation [M, K], all after it of the weight "
    "[N, K].  [default: gemm]",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON to this file as well.")
@_threads
@_json
def bench(
    shapes: list[tuple[int, int, int]],
    weights: tuple[str, ...],
    activations: tuple[str, ...],
    rounds: int | None,
    canonical: bool,
    predict: bool,
    archs: tuple[str, ...],
    names: tuple[str, ...],
    out: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Time the kernels: gemm over widths and shapes.

    Each takes turns with torch.nn.functional.linear in fp32 and bf16, every call on another copy of the weight, so that
    caches do not help. A kernel whose result is wrong is an error.

    With --predict nothing is timed: the CUDA kernels run on the emulator, and what they execute, at the published rates
    of an architecture, gives the time that they cannot be faster than. Such a figure is predicted, not measured.
    """
    from lowbit import display, microbench
    from lowbit.progress import bar

    _set_threads(threads)
    if predict:
        _predict(names, shapes, weights, activations, archs, not canonical, out, as_json)
        return
    if names:
        raise ValueError("bench: --op must come with --predict, got it alone; add --predict")
    if archs:
        raise ValueError("bench: --arch must come with --predict, got it alone; add --predict")
    shapes = shapes or list(microbench.SHAPES)
    weights = weights or microbench.WEIGHTS
    activations = activations or microbench.ACTIVATIONS
    timings = []
    with bar("bench", len(shapes) * len(weights) * len(activations)) as advance:
        for timing in microbench.run(shapes, weights, activations, rounds, prepacked=not canonical):
            timings.append(timing)
            advance(1)
    facts = microbench.machine() | {"read_gb_s": microbench.read_bandwidth() / 1e9}
    result = {"machine": facts, "rows": [t.to_dict() for t in timings]}
    _write(result, out)
    if as_json:
        _print_json(result)
    else:
        display.show(display.timings_table(timings))


def _write(result: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _predict(
    names: tuple[str, ...],
    shapes: list[tuple[int, int, int]],
    weights: tuple[str, ...],
    activations: tuple[str, ...],
    archs: tuple[str, ...],
    prepacked: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    from lowbit import display, predict
    from lowbit.progress import bar

    shapes = shapes or list(predict.SHAPES)
    weights = weights or predict.WEIGHTS
    activations = activations or predict.ACTIVATIONS
    archs = archs or predict.devices()
    names = names or predict.OPS[:1]
    count = len(predict.parts(names, weights, activations)) * len(shapes) * len(archs)
    rows = []
    with bar("predict", count) as advance:
        for row in predict.run(shapes, weights, activations, archs, prepacked=prepacked, names=names):
            rows.append(row)
            advance(1)
    result = {"predicted": True, "rows": [row.to_dict() for row in rows]}
    _write(result, out)
    if as_json:
        _print_json(result)
    else:
        display.show(display.predictions_table(rows))


@cli.command()
@_json
def info(as_json: bool) -> None:
    """List the recipes, the formats, and what this build and machine can run."""
    from lowbit import display, recipes
    from lowbit.capabilities import capabilities

    known = capabilities()
    listed = [{"name": name, "summary": recipes.get(name).summary} for name in recipes.names()]
    if as_json:
        _print_json({**known, "recipes": listed})
    else:
        display.show(display.capabilities_table(known))
        display.show(display.recipes_table(listed))


def run(arguments: list[str] | None = None) -> int:
    """Runs a command; its status. KeyboardInterrupt passes through."""
    try:
        status = cli.main(arguments, prog_name="lowbit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return ERROR
    except click.Abort:  # click's name for Ctrl-C
        raise KeyboardInterrupt from None
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError, MemoryError) as error:
        click.echo(f"Error: {' '.join(str(error).split()) or type(error).__name__}", err=True)
        return ERROR
    return status if isinstance(status, int) else 0
