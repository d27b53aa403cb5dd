"""What is made of an environment that speaks of other processes."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from rote_bench.errors import UserError
from rote_bench.training import distributed
from rote_bench.training.distributed import Processes, join, leave, remark, several

NAMES = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")


def surround(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for pair in given.split():
        name, _, value = pair.partition("=")
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", None),
        ("WORLD_SIZE=1 RANK=0", None),
        ("RANK=3", None),
        ("WORLD_SIZE=2", "WORLD_SIZE=2 is set without a RANK and is ignored: this process trains alone"),
        ("WORLD_SIZE=", "WORLD_SIZE= is no number and is ignored: this process trains alone"),
        ("WORLD_SIZE=two RANK=0", "WORLD_SIZE=two is no number and is ignored: this process trains alone"),
        ("WORLD_SIZE=4 RANK=", "WORLD_SIZE=4 is set without a RANK and is ignored: this process trains alone"),
    ],
)
def test_what_no_launcher_said_is_ignored(monkeypatch: pytest.MonkeyPatch, given: str, said: str | None) -> None:
    surround(monkeypatch, given)
    assert (several(), remark(), join("cpu")) == (1, said, (Processes(), "cpu"))
    leave()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("WORLD_SIZE=2 RANK=0", "speak of 2 processes, but MASTER_ADDR and MASTER_PORT do not say where they meet"),
        ("WORLD_SIZE=2 RANK=0 MASTER_ADDR=127.0.0.1", "but MASTER_PORT do not say"),
        ("WORLD_SIZE=2 RANK=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1", "WORLD_SIZE is 2 and RANK 2"),
        ("WORLD_SIZE=-1 RANK=0", "WORLD_SIZE is -1"),
    ],
)
def test_what_cannot_be_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch, given: str, said: str) -> None:
    surround(monkeypatch, given)
    with pytest.raises(UserError, match=said) as caught:
        join("cpu")
    assert "unset WORLD_SIZE and RANK" in str(caught.value)


def test_others_that_do_not_come_are_not_waited_for_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    surround(monkeypatch, f"WORLD_SIZE=2 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT={port}")
    monkeypatch.setattr(distributed, "PATIENCE", timedelta(seconds=1))
    monkeypatch.setattr(distributed, "SILENCE", 0.2)
    said: list[str] = []
    with pytest.raises(UserError, match=r"the 2 processes did not meet at 127\.0\.0\.1") as caught:
        join("cpu", said.append)
    assert "\n" not in str(caught.value) and len(said) == 1 and "process 0 of 2 waits for the others" in said[0]
