"""States of training that cannot be used: one warning, and the one before serves, or training begins anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rote_bench.training.state import SavedState, Standing, before, forget, standing


def net(width: int = 8) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(width)
    made = torch.nn.Linear(width, width)
    return made, torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)


def stepped(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()


def saved(path: Path, *, times: int) -> list[torch.Tensor]:
    """So many states, one after the other; the first weight of each."""
    model, optimizer = net()
    state, found = SavedState(path, "x", 0.0), []
    at = state.read(model, optimizer)
    for step in range(1, times + 1):
        stepped(model, optimizer)
        at.step = step
        at.candidates.offer(1 - step / 10, 0.0, step / 10, step, partial(dict, model.state_dict()))
        assert state.write(model, optimizer, at)
        found.append(next(model.parameters()).detach().clone())
    return found


def flipped(path: Path) -> None:
    """As by a bad disk: nothing about the file's form is wrong."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def other_model(path: Path) -> None:
    model, optimizer = net(4)
    other = path.parent / "elsewhere" / path.name
    SavedState(other, "x", 0.0).write(model, optimizer, Standing(step=1))
    os.replace(other, path)
    other.parent.rmdir()


def changed(change: Callable[[dict[str, Any]], object], path: Path) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def in_its_place(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "garbage": lambda p: p.write_bytes(os.urandom(5000)),
    "text": lambda p: p.write_text("not a state"),
    "cut": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "flipped": flipped,
    "a folder": in_its_place(lambda p: p.mkdir()),
    "a link to nothing": in_its_place(lambda p: p.symlink_to("nowhere")),
    "another thing": lambda p: torch.save([1, 2], p),
    "another model": other_model,
    "no optimizer": partial(changed, lambda s: s.pop("optimizer")),
    "another optimizer": partial(changed, lambda s: s["optimizer"]["state"][0].update(momentum_buffer=torch.ones(3))),
    "no generator": partial(changed, lambda s: s.update(rng=torch.zeros(3))),
    "a step before the first": partial(changed, lambda s: s.update(step=-1)),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("times", [1, 3])
def test_a_damaged_state_is_one_warning(tmp_path: Path, how: str, times: int) -> None:
    path, said = tmp_path / "state.pt", list[str]()
    weights = saved(path, times=times)
    DAMAGE[how](path)
    model, optimizer = net()
    fresh, generator = next(model.parameters()).detach().clone(), torch.get_rng_state()
    state = SavedState(path, "x", 0.0, said.append)
    at = state.read(model, optimizer)
    assert len(said) == 1 and str(path) in said[0] and "\n" not in said[0]
    if times == 1:
        assert at.step == 0 and said[0].endswith("training begins anew")
        assert torch.equal(next(model.parameters()), fresh) and not optimizer.state_dict()["state"]
        assert torch.equal(torch.get_rng_state(), generator)
    else:
        assert at.step == times - 1 and said[0].endswith(f"from the state before it, at step {times - 1}")
        assert torch.equal(next(model.parameters()), weights[-2])
    assert 0 <= standing(path, "x")[0] <= times  # whether weights fit, only who has the model can tell
    at.step = 7
    assert state.write(model, optimizer, at)  # from here on all is well again
    again = SavedState(path, "x", 0.0, said.append)
    assert again.read(*net()).step == 7 and len(said) == 1
    forget(path)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_was_not_yet_in_its_place_is_found_beside_it(tmp_path: Path) -> None:
    path, said = tmp_path / "state.pt", list[str]()
    saved(path, times=2)
    path.unlink()  # the moment between the two renamings
    assert SavedState(path, "x", 0.0, said.append).read(*net()).step == 1 and said == []
    assert standing(path, "x")[0] == 1


def test_a_snapshot_that_waits_in_a_damaged_file_makes_the_state_useless(tmp_path: Path) -> None:
    path, said = tmp_path / "state.pt", list[str]()
    saved(path, times=6)
    waiting = sorted(tmp_path.glob(".state-*.pt"))
    assert waiting
    waiting[0].write_bytes(b"")
    assert SavedState(path, "x", 0.0, said.append).read(*net()).step == 0 and len(said) == 1


def test_no_state_is_written_over_by_one_that_finds_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, said = tmp_path / "state.pt", list[str]()
    saved(path, times=1)
    model, optimizer = net()
    state = SavedState(path, "x", 0.0, said.append)
    at = state.read(model, optimizer)

    def full(*unused: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        at.step = 9
        assert not state.write(model, optimizer, at)
    assert "No space left" in said[0] and len(said) == 1
    assert SavedState(path, "x", 0.0, said.append).read(*net()).step == 1 and len(said) == 1
    assert not list(tmp_path.glob("*.partial"))
    assert state.write(model, optimizer, at)
    assert SavedState(path, "x", 0.0).read(*net()).step == 9


def test_nothing_is_left_of_a_training_that_is_over(tmp_path: Path) -> None:
    saved(tmp_path / "state.pt", times=6)
    assert before(tmp_path / "state.pt").is_file()
    forget(tmp_path / "state.pt")
    assert list(tmp_path.iterdir()) == []
