"""lowbit.quantize on small models: every recipe, what it refuses, and that failure leaves the model alone."""

import copy
import dataclasses

import lowbit
import pytest
import torch
from lowbit import recipes
from lowbit.config import GPTQ, Recipe, WeightConfig
from lowbit.nn import QuantEmbedding, QuantLinear, QuantWeight
from models import logits, relative, tiny_llama, token_ids
from torch import nn

IDS = token_ids()


@pytest.fixture(scope="module")
def original():
    return tiny_llama()


@pytest.fixture(scope="module")
def statistics(original):
    return lowbit.calibrate(original, IDS, progress=False)


def run(model, recipe, statistics):
    recipe = recipes.get(recipe)
    model = copy.deepcopy(model)
    data = None
    if recipe.needs_calibration:
        data = statistics if recipe.transform is None else IDS
    return model, lowbit.quantize(model, recipe, calibration=data, progress=False)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe(name, original, statistics):
    recipe = recipes.get(name)
    model, report = run(original, name, statistics)
    modules = dict(model.named_modules())
    assert not [n for n, m in modules.items() if isinstance(m, nn.Linear | nn.Embedding)]
    linears = [m for m in modules.values() if isinstance(m, QuantLinear)]
    assert len(linears) == 2 * 7 + 1
    inner = [m for m in linears if m is not model.lm_head]
    assert {m.weight.spec.text for m in inner} == {recipe.weight.format}
    assert {m.x_format for m in inner} == {recipe.activation.format if recipe.activation else None}
    assert model.lm_head.weight.spec.text == recipe.head_weight.format
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert isinstance(model.model.embed_tokens, QuantEmbedding)

    # true bits: what is stored over what it stands for
    stored = sum(t.numel() * t.element_size() for t in model.state_dict().values() if t.numel())
    stored -= model.lm_head.weight.nbytes  # twice in the state dict
    stored -= sum(m.sign.numel() * 4 for m in modules.values() if getattr(m, "sign", None) is not None)
    assert report.bytes == stored
    assert report.bits == 8 * stored / sum(p.numel() for p in original.parameters())
    assert [layer.name for layer in report.layers if "lm_head" in layer.name] == ["lm_head"]
    assert len(report.layers) == 2 * 7 + 1
    assert all(0 < layer.error < 0.5 for layer in report.layers)

    out, want = logits(model, IDS), logits(original, IDS)
    # random weights forgive less than trained ones; noise as large as the signal would give sqrt(2)
    assert relative(out, want) < {"8": 0.4, "4": 1.1, "3": 1.2, "2": 1.35}[name[1]]


@pytest.mark.parametrize("name", [n for n in recipes.names() if "a16" in n])
def test_runs_on_the_weights_it_reports(name, original, statistics):
    """A float model with the dequantized weights computes the same."""
    model, _ = run(original, name, statistics)
    float_model = copy.deepcopy(original)
    for module_name, module in model.named_modules():
        if isinstance(module, QuantLinear | QuantEmbedding):
            float_model.get_submodule(module_name).weight = nn.Parameter(module.weight.dequantize())
    assert relative(logits(model, IDS), logits(float_model, IDS)) < 1e-4


@pytest.mark.parametrize(
    ("nearest", "feedback"),
    [("w4a16-g64", "w4a16-gptq-g64"), ("w3a16-g64", "w3a16-gptq-g64"), ("w2a16-g32", "w2a16-gptq-g32")],
)
def test_gptq_beats_nearest(nearest, feedback, original, statistics):
    near, fed = run(original, nearest, statistics)[0], run(original, feedback, statistics)[0]
    want = logits(original, IDS)
    assert relative(logits(fed, IDS), want) < relative(logits(near, IDS), want)
    for a, b in zip(near.modules(), fed.modules(), strict=True):
        if isinstance(a, QuantWeight):
            assert torch.equal(a.scale, b.scale)


def test_statistics_stand_for_text(original, statistics):
    recipe = recipes.get("w3a16-gptq-g64")
    shared, _ = run(original, recipe, statistics)
    own = copy.deepcopy(original)
    report = lowbit.quantize(own, recipe, calibration=IDS, progress=False)
    first = "model.layers.0.self_attn.q_proj.weight"
    # before the first block nothing is quantized, so its Hessian is the same; the later blocks see quantized inputs
    assert torch.equal(shared.get_submodule(first).codes, own.get_submodule(first).codes)
    assert report.layers[0].name.startswith("model.layers.0")
    last = "model.layers.1.mlp.down_proj.weight"
    assert not torch.equal(shared.get_submodule(last).codes, own.get_submodule(last).codes)


def test_same_twice(original, statistics):
    a, b = (run(original, "w2a16-gptq-g32", statistics)[0] for _ in range(2))
    assert torch.equal(logits(a, IDS), logits(b, IDS))


def test_untied_head_and_embedding():
    model = tiny_llama(tied=False)
    report = lowbit.quantize(model, "w8a16", progress=False)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert [layer.name for layer in report.layers][-2:] == ["lm_head", "model.embed_tokens"]


def test_attention_with_bias(original):
    model = tiny_llama(attention_bias=True)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.bias.uniform_(-1, 1)
    want = logits(model, IDS)
    lowbit.quantize(model, "w8a16", progress=False)
    assert relative(logits(model, IDS), want) < 0.1


def test_bfloat16_model(original):
    model = copy.deepcopy(original).to(torch.bfloat16)
    want = logits(model, IDS)
    lowbit.quantize(model, "w8a16", progress=False)
    got = logits(model, IDS)
    assert got.dtype == torch.bfloat16
    assert relative(got, want) < 0.1


def test_any_module_with_linears():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 7, bias=False))
    x = torch.randn(64, 20)
    want = model(x)
    recipe = Recipe("w8a16-mine", "", WeightConfig("int8:row"), rounding=GPTQ())

    class Windows(nn.Module):  # takes token ids, as calibration gives them
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(128, 20)
            self.body = model

        def forward(self, ids):
            return self.body(self.table(ids))

    whole = Windows()
    report = lowbit.quantize(whole, recipe, calibration=IDS, progress=False)
    assert {layer.name for layer in report.layers} == {"body.0", "body.2"}
    assert relative(model(x).detach(), want.detach()) < 0.05


def test_generate_runs(original, statistics):
    model, _ = run(original, "w4a8", statistics)
    out = model.generate(IDS[:1, :5], max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert out.shape == (1, 9)


def test_compiles_whole(original, statistics):
    model, _ = run(original, "w4a8", statistics)
    compiled = torch.compile(model.model.layers[0].mlp, fullgraph=True, backend="aot_eager")
    x = torch.randn(1, 3, 96)
    with torch.no_grad():
        assert torch.equal(compiled(x), model.model.layers[0].mlp(x))


# --- what is refused --------------------------------------------------------------------------------------------------


def fingerprint(model):
    return {n: (id(p), p.clone()) for n, p in model.named_parameters()}, [type(m) for m in model.modules()]


def assert_untouched(model, before):
    parameters, kinds = before
    assert [type(m) for m in model.modules()] == kinds
    for name, parameter in model.named_parameters():
        assert id(parameter) == parameters[name][0]
        assert torch.equal(parameter, parameters[name][1])


@pytest.mark.parametrize(
    ("recipe", "arguments", "sentence"),
    [
        ("w4a16-gtpq-g64", {}, 'did you mean "w4a16-gptq-g64"'),
        ("w4a16-gptq-g64", {}, "calibration must be given for recipe w4a16-gptq-g64, got None"),
        ("w4a16-gptq-g64", {"calibration": IDS[:1]}, "at least 160 tokens, .* got 32; give more text"),
        ("w4a16-gptq-g64", {"calibration": "some text"}, "tokenizer must be given for text"),
        ("w4a16-gptq-g64", {"calibration": torch.randn(4, 64)}, "calibration must be text, int64 token ids"),
        ("w4a16-gptq-g64", {"calibration": 7}, "calibration must be text, int64 token ids"),
        ("w4a16-gptq-g64", {"calibration": lowbit.Statistics({}, 9999)}, "must be the Statistics of this model"),
    ],
)
def test_refusals_leave_the_model_alone(recipe, arguments, sentence):
    model = tiny_llama()
    before = fingerprint(model)
    with pytest.raises(ValueError, match=sentence):
        lowbit.quantize(model, recipe, progress=False, **arguments)
    assert_untouched(model, before)


def test_statistics_do_not_fit_a_transformed_model(original, statistics):
    recipe = dataclasses.replace(recipes.get("w4a4-hadamard"), rounding=GPTQ())
    with pytest.raises(ValueError, match="must be text or token ids for recipe w4a4-hadamard"):
        lowbit.quantize(copy.deepcopy(original), recipe, calibration=statistics, progress=False)


def test_a_model_without_linears_is_refused():
    with pytest.raises(ValueError, match=r"model must have linears .* got Sequential, which has none"):
        lowbit.quantize(nn.Sequential(nn.ReLU()), "w8a16")


def test_a_quantized_model_is_refused(original):
    model = copy.deepcopy(original)
    lowbit.quantize(model, "w8a16", progress=False)
    with pytest.raises(ValueError, match="which is quantized already; load the original model"):
        lowbit.quantize(model, "w8a16", progress=False)


def test_weights_that_are_not_finite_are_refused():
    model = tiny_llama()
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    before = [type(m) for m in model.modules()]
    with pytest.raises(ValueError, match=r"the weight of 'model.layers.1.mlp.up_proj' must be finite"):
        lowbit.quantize(model, "w8a16", progress=False)
    assert [type(m) for m in model.modules()] == before


@pytest.mark.parametrize("name", ["w8a16", "w4a4-hadamard", "w4a16-gptq-g64"])
@pytest.mark.parametrize("at", [3, 9])
def test_an_interrupt_leaves_the_model_as_it_was(name, at, monkeypatch):
    from lowbit import quantization

    model = tiny_llama()
    want, before = logits(model, IDS), fingerprint(model)
    report, calls = quantization._report, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt
        return report(*args)

    monkeypatch.setattr(quantization, "_report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lowbit.quantize(model, name, calibration=IDS, progress=False)
    assert_untouched(model, before)
    assert torch.equal(logits(model, IDS), want)


def test_the_bar_writes_to_stderr_alone(capsys):
    lowbit.quantize(tiny_llama(layers=1), "w8a16")
    assert capsys.readouterr().out == ""
