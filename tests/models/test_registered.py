"""Types that code registers with AutoConfig and AutoModelForCausalLM are types as those of transformers are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.models.auto import configuration_auto, modeling_auto

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.models.names import is_registered, is_sized, parse, registered_types
from rote_bench.report.write import faults
from tests.pipeline.test_runner import tiny

PLUGIN = """
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

class MeanConfig(PreTrainedConfig):
    model_type = "running_mean"
    def __init__(self, vocab_size=100, hidden_size=64, num_hidden_layers=2, **rest):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        super().__init__(**rest)

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.value, self.up, self.down = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(self.up, nn.ReLU(), self.down)
    def forward(self, x):
        seen = torch.arange(1, x.shape[1] + 1, device=x.device).view(1, -1, 1)
        x = x + self.value(x.cumsum(1) / seen)
        return x + self.mlp(x)

class MeanForCausalLM(PreTrainedModel):
    config_class = MeanConfig
    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config.hidden_size) for _ in range(config.num_hidden_layers))
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()
    def get_input_embeddings(self):
        return self.embed
    def get_output_embeddings(self):
        return self.head
    def forward(self, input_ids, **rest):
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return CausalLMOutput(logits=self.head(x))

AutoConfig.register("running_mean", MeanConfig)
AutoModelForCausalLM.register(MeanConfig, MeanForCausalLM)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "mean.py"
    file.write_text(PLUGIN)
    yield file
    configs = configuration_auto.CONFIG_MAPPING._extra_content
    models = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING._extra_content
    models.pop(configs.pop("running_mean", None), None)


def test_a_file_that_registers_a_type_is_plugin_enough(
    plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="unknown model 'running_mean-nano'"):
        parse("running_mean-nano")
    assert main(["check-model", "running-mean-nano", "--plugin", str(plugin), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert found["status"] == "proved" and found["model_type"] == "running_mean"
    assert found["checks"]["trains"]["ok"] and found["checks"]["mlp"]["ok"]
    assert registered_types() == ("running_mean",) and not is_sized("running_mean-nano")
    assert is_registered("running_mean-nano") and not is_registered("running_mean-huge")
    assert main(["list", "models", "--plugin", str(plugin), "--json"]) == 0
    assert "running_mean-micro" in {item["name"] for item in json.loads(capsys.readouterr().out)}


def test_it_is_trained_by_name_and_its_source_counts(plugin: Path, tmp_path: Path) -> None:
    report = rote_bench.run(
        tiny(tmp_path), model="running_mean-nano", plugins=[plugin], output_path=tmp_path / "runs", quiet=True
    )
    model = report.record.model
    assert (model.source, model.model_type, model.weights) == ("scratch", "running_mean", None)
    assert model.builder is not None and not faults(report.data)
    assert report.record.diagnostics["logit_lens"].status == "success"
    assert main(["leaderboard", "check", str(report.folder), "--plugin", str(plugin)]) in (0, 3)
    snapshot = report.folder / "checkpoints" / "post_memorization"
    checked = rote_bench.check_model(f"hf:{snapshot}")
    assert checked["status"] == "proved"


def test_a_reader_without_the_plugin_runs_no_code_and_cannot_repeat_it(plugin: Path, tmp_path: Path) -> None:
    report = rote_bench.run(
        tiny(tmp_path), model="running_mean-nano", plugins=[plugin], output_path=tmp_path / "runs", quiet=True
    )
    command = [sys.executable, "-m", "rote_bench", "leaderboard", "check", str(report.folder), "--rerun"]
    done = subprocess.run(command, capture_output=True, text=True, env=_bare())
    assert done.returncode == 3, done.stdout + done.stderr
    assert "unknown model 'running_mean-nano'" in " ".join(done.stdout.split())


def _bare() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(rote_bench.__file__).parent.parent), "COLUMNS": "400"}
