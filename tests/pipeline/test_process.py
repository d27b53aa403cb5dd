"""A run leaves its caller's process as it found it, and so does one that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import rote_bench
from tests.pipeline.test_runner import tiny

CALLER = """
import os, random, sys, warnings
import matplotlib, torch, transformers
from transformers.models.mamba import modeling_mamba
from transformers.utils import logging
from rote_bench.machine import choose_threads
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.statespace import quicken
from rote_bench.pipeline.process import undisturbed

torch.set_num_threads(2)
logging.set_verbosity_info()
warnings.simplefilter("error", BytesWarning)

def seen():
    return {
        "threads": torch.get_num_threads(),
        "drawn": torch.get_rng_state().tolist(),
        "verbosity": logging.get_verbosity(),
        "bars": logging.is_progress_bar_enabled(),
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
        "backend": dict.__getitem__(matplotlib.rcParams, "backend"),
        "functions": [id(f) for f in vars(modeling_mamba).values() if callable(f)],
    }

def change(fails):
    with undisturbed():
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        model = FromConfig().load(ModelRequest("mamba-nano", 30, 16, pad_token_id=0, eos_token_id=1)).model
        quicken(model)
        choose_threads(1, model)
        torch.manual_seed(7)
        matplotlib.use("Agg")
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
        os.environ["ROTE_BENCH_TEST"] = "1"
        del os.environ["ROTE_BENCH_GONE"]
        warnings.simplefilter("ignore")
        changed = {name for name, value in seen().items() if value != before[name]}
        replaced = hasattr(modeling_mamba, "mamba_selective_scan")  # older releases have nothing to replace
        assert changed == {*before} - (set() if replaced else {"functions"}), changed
        if fails:
            raise ZeroDivisionError

for backend in ("unchosen", "svg"):
    if backend == "svg":
        matplotlib.use(backend)
        import matplotlib.pyplot
    before = seen()
    assert ("matplotlib.pyplot" in sys.modules) == (backend == "svg")
    for fails in (False, True):
        try:
            change(fails)
            assert not fails
        except ZeroDivisionError:
            assert fails
        after = seen()
        left = [name for name in before if before[name] != after[name]]
        assert not left, (backend, fails, left)
"""


def test_a_run_leaves_its_callers_process_as_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLER],
        env={**os.environ, "ROTE_BENCH_GONE": "1", "MPLBACKEND": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_command_without_a_word_on_threads_fails_in_no_diagnostic(tmp_path: Path) -> None:
    """As users start it: with all cores of the machine, of which the other tests take one."""
    names = sorted({each.name for task in ("thr", "fda") for each in rote_bench.load_task(task).diagnostics})
    command = [sys.executable, "-m", "rote_bench", "run", str(tiny(tmp_path, f"diagnostics: [{', '.join(names)}]\n"))]
    done = subprocess.run(
        [*command, "--model", "gpt2-nano", "--twin", "-o", str(tmp_path / "runs")],
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("report.json")]
    assert sorted(report["data"]["n_noisy"] > 0 for report in found) == [False, True]
    for report in found:
        entries = report["diagnostics"]
        assert {name: one["reason"] for name, one in entries.items() if one["status"] == "failed"} == {}
        assert sorted(entries) == names
