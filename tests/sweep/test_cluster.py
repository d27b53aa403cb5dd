"""How a cluster of this machine is asked for, without one."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rote_bench.errors import UserError
from rote_bench.sweep import cluster


class Ray(SimpleNamespace):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(asked=None, error=error)

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.asked = options
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def asked(monkeypatch: pytest.MonkeyPatch, address: str | None, error: Exception | None = None) -> dict[str, Any]:
    ray = Ray(error)
    monkeypatch.setitem(sys.modules, "ray", ray)
    cluster._connect(address, 2)
    options: dict[str, Any] = ray.asked
    return options


def test_without_an_address_a_cluster_is_started_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    options = asked(monkeypatch, None)
    assert (options["address"], options["num_cpus"]) == ("local", 2)
    assert options["_node_ip_address"] == "127.0.0.1"
    options = asked(monkeypatch, "auto")
    assert options["address"] == "auto" and "num_cpus" not in options and "_temp_dir" not in options


def test_a_token_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, None)
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    asked(monkeypatch, None)
    assert os.environ["RAY_AUTH_MODE"] == "disabled" and "RAY_AUTH_TOKEN" not in os.environ


def test_sockets_in_a_deep_folder_have_names_that_are_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")
    assert "_temp_dir" not in asked(monkeypatch, None)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / ("d" * 60)))
    assert len(asked(monkeypatch, None)["_temp_dir"]) <= cluster.SHORT
    monkeypatch.setattr(os, "access", lambda *unused: False)
    with pytest.raises(UserError, match="TMPDIR: Ray needs a folder with a shorter name"):
        asked(monkeypatch, None)


@pytest.mark.parametrize("error", [OSError(2, "No such file"), ConnectionError(), RuntimeError("two\nlines")])
def test_a_cluster_that_does_not_start_is_a_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(UserError, match="--executor ray: no Ray cluster: ") as caught:
        asked(monkeypatch, None, error)
    assert "\n" not in str(caught.value)
