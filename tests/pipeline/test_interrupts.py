"""Signals of a real process while it trains."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from rote_bench.pipeline.interrupts import interruptible

BUSY = """
import signal, sys, time
from rote_bench.pipeline.interrupts import interruptible
with interruptible() as requested:
    print("ready", flush=True)
    while not requested():
        time.sleep(0.01)
    print("asked", flush=True)
    while True:  # a step that takes long
        time.sleep(0.01)
"""
NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("first", NUMBERS)
@pytest.mark.parametrize("second", NUMBERS)
def test_the_second_signal_of_either_kind_stops_at_once(first: signal.Signals, second: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(first)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(second)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -second
    assert ("KeyboardInterrupt" in said) == (second == signal.SIGINT)


def test_whoever_heeded_signals_before_does_so_again(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = {number: signal.signal(number, lambda n, frame: heard.append(n)) for number in NUMBERS}
    try:
        mine = [signal.getsignal(number) for number in NUMBERS]
        with pytest.raises(ZeroDivisionError), interruptible() as requested:
            assert not requested()
            signal.raise_signal(signal.SIGTERM)
            assert requested() and heard == []
            signal.raise_signal(signal.SIGINT)
            assert heard == [signal.SIGINT]
            _ = 1 / 0
        assert [signal.getsignal(number) for number in NUMBERS] == mine
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for what a shell starts in the background
        with interruptible() as requested:
            signal.raise_signal(signal.SIGINT)
            assert not requested()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_another_thread_gets_no_signals() -> None:
    found: list[bool] = []

    def work() -> None:
        with interruptible() as requested:
            found.append(requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
