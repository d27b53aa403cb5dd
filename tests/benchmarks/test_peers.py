"""What is compared does the same work: equal losses, equal logits, cells that a leaderboard accepts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from benchmarks import loops
from benchmarks.growth import Size, measure, table
from benchmarks.leaderboard import SAMPLES, Cells
from benchmarks.patching import Hooks, Product, furthest
from rote_bench.cli import main
from rote_bench.encoding import IGNORED, Encoded
from rote_bench.interventions import OUTPUTS, Site, capture
from rote_bench.leaderboard.answers import Answers
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, LoadedModel, ModelRequest
from rote_bench.training.loop import answer_loss


def small(layers: int = 2) -> LoadedModel:
    sizes = {"layers": layers, "width": 32, "heads": 2, "activation": "relu"}
    loaded = FromConfig().load(ModelRequest("gpt2-nano", 40, 16, pad_token_id=0, overrides=sizes))
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return loaded


def batch(n: int = 24, length: int = 6) -> Encoded:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 40, (n, length), generator=generator)
    targets = torch.full_like(ids, IGNORED)
    targets[:, -1] = torch.randint(3, 40, (n,), generator=generator)
    targets[0] = targets[0].roll(-2)  # an answer that ends earlier
    return Encoded(ids, targets, {})


def test_the_best_plain_loop_computes_the_products_loss_and_gradients() -> None:
    model, rows = small().model, batch()
    wanted = rows.targets != IGNORED
    network = loops.Plain(model, torch.float32)  # shares the model's weights
    weights = [p for p in model.parameters() if p.requires_grad]
    theirs = F.cross_entropy(network(rows.input_ids, wanted.int().argmax(1)), rows.targets[wanted])
    found = torch.autograd.grad(theirs, weights)
    ours = answer_loss(model, rows)
    assert float(theirs.detach()) == pytest.approx(float(ours.detach()), rel=1e-5)
    for a, b in zip(found, torch.autograd.grad(ours, weights), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_tutorials_loop_learns_the_answers_and_nothing_else() -> None:
    model, rows = small().model, batch()
    loss = model(input_ids=rows.input_ids, labels=rows.targets, shift_labels=rows.targets).loss
    assert float(loss.detach()) == pytest.approx(float(answer_loss(model, rows).detach()), rel=1e-5)
    before = [p.clone() for p in model.parameters()]
    loops.tutorial(model, rows, "float32")()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)), "it trains a copy"


@torch.no_grad()
def test_hooks_patch_and_read_as_the_product_does() -> None:
    ids, sites = batch().input_ids, [Site(layer, part) for layer in range(2) for part in OUTPUTS]
    model = small()
    ours, theirs = Product(model, ids, sites), Hooks(model, ids, sites)
    _, donor = capture(Anatomy.of(model.model), ids.roll(1, 0), sites)
    assert furthest(ours.patches(donor), theirs.patches(donor)) < 1e-5
    assert furthest(ours.lens(), theirs.lens()) < 1e-5
    assert len({float(logits.sum()) for logits in ours.patches(donor).values()}) > 2, "patches change nothing"


def test_growth_has_a_line_for_every_diagnostic_that_ran() -> None:
    sizes = {"small": Size(1, 32, 12), "large": Size(2, 32, 12)}
    found = measure(list(sizes.values()), 1, ["logit_lens", "activation_patching", "learning_dynamics"])
    made = table("growth", {name: found[size] for name, size in sizes.items()})
    assert {row[0] for row in made.rows} == {"all of these", *found[sizes["large"]]}
    assert found[sizes["small"]].keys() == {"activation_patching", "logit_lens"}  # no curve was learned here
    assert made.rows[0][0] == "all of these" and made.heads[1:3] == ("small", "large")


def test_a_diagnostic_that_some_size_lacks_is_named_and_not_summed() -> None:
    found = {"small": {"a": [1.0, 1.0]}, "large": {"a": [2.0, 3.0], "b": [9.0, 9.0]}}
    made = table("growth", found)
    assert made.rows == [[name, "1.00", "2.50", "2.0 / 2.5 / 3.0"] for name in ("all of these", "a")]
    assert made.note == "Had nothing to do at some size: b." and "large: b" in made.seconds


def test_the_cells_of_a_large_board_are_accepted_with_their_answers(thr_cell: Path, tmp_path: Path) -> None:
    cells = Cells(thr_cell, tmp_path)
    for seed in range(2):
        for rate in (0.0, 0.05):
            cells.put(tmp_path / "reports" / f"{rate}" / str(seed), "model-0", rate, seed)
    output = tmp_path / "board"
    assert main(["leaderboard", "build", str(tmp_path / "reports"), "-o", str(output), "--quiet"]) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    assert (board["reports"]["counted"], board["reports"]["refused"]) == (4, 0), board
    for file in (tmp_path / "reports").rglob("report.json"):
        value = json.loads(file.read_text())["metrics"]["validation_accuracy"]["value"]
        assert Answers.load(file.parent / SAMPLES).values()["validation_accuracy"] == pytest.approx(value)
