"""Folders that hold no model, or one that would never fit, are told from it before anything is loaded."""

from __future__ import annotations

import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.models.content import of_code
from rote_bench.models.folder import check_config, tokenizer_needs
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.names import parse
from rote_bench.models.pretrained import BUILT_IN, FromPretrained
from rote_bench.models.survey import check

from .test_weights import saved

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 45678\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "m", "llama-nano")


def load(folder: Path) -> None:
    FromPretrained().load(ModelRequest(f"hf:{folder}", 0, 0))


def configured(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json", "generation_config.json"]
)
def test_pointers_of_git_lfs_are_named(folder: Path, file: str) -> None:
    (folder / file).write_text(POINTER)
    with pytest.raises(UserError, match=rf"{file} is a git-lfs pointer.*`git lfs pull`"):
        load(folder)


def test_a_shard_that_is_a_pointer_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model-00002-of-00002.safetensors").write_text(POINTER)
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with pytest.raises(UserError, match=r"model-00002-of-00002\.safetensors is a git-lfs pointer"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, -1])
def test_weights_that_are_cut_short_are_named(folder: Path, keep: float) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=r"model.safetensors is cut short or damaged.*download it once more"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000, and its weights hold 21 tensors"),
        ({"hidden_size": 10**7}, "hidden_size 10000000, and its weights hold"),
        ({"vocab_size": 10**9}, "vocab_size 1000000000, and its weights hold"),
        ({"num_attention_heads": 10**9}, "num_attention_heads 1000000000"),
        ({"num_hidden_layers": 10**400}, "num_hidden_layers 1000"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers two, which is no number"),
        ({"model_type": "nonsense"}, "nonsense"),
    ],
)
def test_what_could_not_be_built_is_refused_at_once(folder: Path, changes: dict[str, object], says: str) -> None:
    configured(folder, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=says) as raised:
        check(f"hf:{folder}", BUILT_IN)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_positions_beyond_the_weights_are_never_made(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", "gpt2-nano")
    configured(folder, n_positions=10**9)
    with pytest.raises(UserError, match=r"describes 16,000,0\d\d,\d\d\d parameters, and its weights hold [\d,]+$"):
        load(folder)


@pytest.mark.parametrize("changes", [{"layers": 10**9}, {"config": {"n_layer": 10**9}}, {"config": {"n_embd": 10**9}}])
def test_random_weights_are_not_absurd_either(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match="cannot be built: its configuration says"):
        FromConfig().load(ModelRequest("gpt2-nano", 50, 16, overrides=changes))


def test_ordinary_sizes_pass() -> None:
    check_config({"num_hidden_layers": 126, "hidden_size": 16384, "vocab_size": 262144}, name="m", where="x")
    check_config({"max_position_embeddings": 10**9, "rope_theta": 5e8}, [(4, 4)], name="m", where="x")


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def without_added_tokens(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    del tokenizer["added_tokens"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def with_sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")


def with_tekken(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tekken.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (not_json, "config.json is not JSON"),
        (without_added_tokens, "its tokenizer cannot be read: KeyError: 'added_tokens'"),
        (without_tokenizer, "has no tokenizer"),
        (with_sentencepiece, r"its tokenizer is tokenizer.model, which sentencepiece reads \(pip install sentencep"),
        (with_tekken, r"its tokenizer is tekken.json, which mistral-common reads \(pip install mistral-common"),
    ],
)
def test_other_faults_of_a_folder_are_one_line(
    folder: Path, change: Callable[[Path], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    absent = ("sentencepiece", "mistral_common")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in absent else find(name, *a))
    change(folder)
    with pytest.raises(UserError, match=says) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_gpt2_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", "gpt2-nano")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="it has no tokenizer"):
        load(folder)


def test_a_tokenizer_model_of_ranks_needs_tiktoken(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    assert tokenizer_needs(tmp_path) == ("tokenizer.model", "tiktoken")


def test_a_folder_may_have_an_at_in_its_name(folder: Path) -> None:
    there = folder.rename(folder.with_name("lab@site model"))
    assert (parse(f"hf:{there}").path, parse(f"hf:{there}").revision) == (str(there), None)
    load(there)
    assert parse("hf:lab@v2").revision == "v2"


def test_padding_that_the_model_does_not_have_is_replaced(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    assert tokenizer.pad_token_id == 5
    assert FromPretrained().load(ModelRequest(f"hf:{folder}", 0, 0)).tokenizer.pad_token_id == 2


def test_code_counts_by_content(tmp_path: Path) -> None:
    assert of_code(tmp_path) is None
    (tmp_path / "own.py").write_text("a = 1")
    first = of_code(tmp_path)
    (tmp_path / "own.py").write_text("a = 2")
    assert first is not None and of_code(tmp_path) not in (None, first)


class Payload:
    """What runs on unpickling."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["pickled", "pickle called safetensors", "model code", "tokenizer code"])
def test_no_code_in_a_models_folder_runs_unasked(folder: Path, tmp_path: Path, how: str) -> None:
    mark, weights = tmp_path / "ran", folder / "model.safetensors"
    if how.endswith("code"):
        (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Own: pass\n")
        if how == "model code":
            configured(folder, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
        else:
            file = folder / "tokenizer_config.json"
            asked = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
            file.write_text(json.dumps({**json.loads(file.read_text()), **asked}))
            (folder / "tokenizer.json").unlink()
    else:
        weights.unlink()
        name = "pytorch_model.bin" if how == "pickled" else weights.name
        (folder / name).write_bytes(pickle.dumps({"lm_head.weight": Payload(mark)}))
    with pytest.raises(UserError) as raised:
        load(folder)
    assert "\n" not in str(raised.value) and not mark.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "thr", "--model", "hf:~no_such_user/x"],
        ["run", "thr", "--model", "gpt2-nano", "--no-train", "--snapshot", "post=~no_such_user/x"],
        ["check-model", "hf:~no_such_user/x"],
        ["data", "thr", "--model", "hf:~no_such_user/x"],
    ],
)
def test_the_home_of_nobody_is_no_folder(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, *(["--quiet"] if arguments[0] == "run" else [])]) != 0
    said = capsys.readouterr()
    assert "no folder '~no_such_user/x'" in said.out + said.err and "RuntimeError" not in said.out + said.err
