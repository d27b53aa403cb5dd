"""What is said of several rows stands once."""

from __future__ import annotations

from typing import Any

from rote_bench.leaderboard.page.notes import notes


def row(model: str, rate: float, *marks: str, reason: str | None = None) -> dict[str, Any]:
    return {"model": model, "noise_rate": rate, "marks": list(marks), "reason": reason}


def test_a_note_names_the_rows_it_is_about_and_they_its_number() -> None:
    rows = [
        row("a", 0.05, "everywhere", "odd"),
        row("b", 0.05, "everywhere"),
        row("a", 0.0, "everywhere", reason="a twin"),
        row("b", 0.0, "everywhere", "odd", reason="a twin"),
        row("b", 0.1, "everywhere", "here alone"),
    ]
    found, own = notes(rows)
    said = [(note.number, note.text, note.about.replace("\u00a0", " ")) for note in found]
    assert said == [
        (1, "everywhere", "all rows"),
        (2, "odd", "a at 5 %; b at 0 %"),
        (3, "Not ranked: a twin.", "all rows at 0 %"),
        (4, "here alone", "b at 10 %"),
    ]
    assert own == [[1, 2], [1], [3, 1], [3, 1, 2], [1, 4]] or own == [[1, 2], [1], [1, 3], [1, 2, 3], [1, 4]]
    assert notes([]) == ([], [])


def test_one_row_is_called_by_its_model() -> None:
    (note,), own = notes([row("a", 0.05, "odd")])
    assert (note.about, own) == ("a", [[1]])
