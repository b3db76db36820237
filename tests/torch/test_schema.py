"""The schemas are an interface: they are compared with schemas.txt, and every op is whole.

Schemas are append-only: a new argument goes to the end with a default. After such a change write the file anew with
    python tests/torch/test_schema.py
which refuses a change that would break a caller of the schemas in the file.
"""

from pathlib import Path

import lowbit
import pytest
import torch

FILE = Path(__file__).with_name("schemas.txt")


def registered() -> dict[str, torch.FunctionSchema]:
    """Name with overload -> schema of every op of this build."""
    schemas = [s for s in torch._C._jit_get_all_schemas() if s.name.startswith("lowbit::")]
    return {f"{s.name}.{s.overload_name}".rstrip("."): s for s in schemas}


def broken(lines: list[str]) -> list[str]:
    """The schemas of `lines` whose callers this build would break."""
    now = registered()
    old = [torch._C.parse_schema(line) for line in lines]
    names = [f"{s.name}.{s.overload_name}".rstrip(".") for s in old]
    return [
        str(s) for n, s in zip(names, old, strict=True) if n not in now or not now[n].is_backward_compatible_with(s)
    ]


OPS = sorted(registered())


def test_callers_of_the_recorded_schemas_still_work():
    assert not broken(FILE.read_text().splitlines()), "schemas are append-only: add arguments at the end, with defaults"


def test_schemas_are_recorded():
    now = sorted(map(str, registered().values()))
    assert now == FILE.read_text().splitlines(), (
        "schemas changed: write them anew with python tests/torch/test_schema.py"
    )


def test_a_removed_argument_and_a_new_one_without_default_are_breaks():
    schema = str(registered()["lowbit::pack"])
    assert not broken([schema])
    assert broken([schema.replace("Tensor codes,", "Tensor codes, int gone,")])
    assert broken([schema.replace("Tensor codes, str format,", "Tensor codes,")])
    assert broken([schema.replace("lowbit::pack", "lowbit::gone")])


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_cpu_kernel(name: str):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_fake(name: str):
    assert torch._library.simple_registry.singleton.find(name).fake_impl.kernel is not None


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_documented_function(name: str):
    function = getattr(lowbit.ops, name.removeprefix("lowbit::").partition(".")[0])
    doc = function.__doc__
    assert "Args:" in doc
    assert "Returns:" in doc or name.endswith("_")
    arguments = [a.name for a in registered()[name].arguments]
    accepted = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    assert set(arguments) <= set(accepted)


@pytest.mark.parametrize("name", [n for n in OPS if n.endswith(".autograd")])
def test_autograd_overloads_take_what_the_default_takes(name: str):
    twin, default = registered()[name], registered()[name.removesuffix(".autograd")]
    assert [(a.name, str(a.type), a.default_value) for a in twin.arguments] == [
        (a.name, str(a.type), a.default_value) for a in default.arguments
    ]
    assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "Autograd")
    assert not torch._C._dispatch_has_kernel_for_dispatch_key(name.removesuffix(".autograd"), "Autograd")


if __name__ == "__main__":
    if FILE.exists() and broken(FILE.read_text().splitlines()):
        raise SystemExit(
            "schemas are append-only; these changed otherwise:\n" + "\n".join(broken(FILE.read_text().splitlines()))
        )
    FILE.write_text("".join(f"{s}\n" for s in sorted(map(str, registered().values()))))
