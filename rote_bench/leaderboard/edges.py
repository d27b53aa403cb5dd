"""Choices at the edge of what was tried: the best recipe may lie beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FEWEST_VALUES = 3  # of two every choice is the lowest or the highest


def edges(configurations: Mapping[str, Mapping[str, str]], chosen: Sequence[str]) -> list[str]:
    """In a sentence each, the settings whose lowest or highest value models chose.

    Settings that rise together over the configurations are one, and are called by the first.

    Args:
        configurations: name -> setting -> value, as text.
        chosen: the configuration of each model that has one.
    """
    out, known = [], set()
    for setting in dict.fromkeys(key for settings in configurations.values() for key in settings):
        values = {name: _number(settings.get(setting)) for name, settings in configurations.items()}
        numbers = sorted({value for value in values.values() if value is not None})
        order = tuple(None if value is None else numbers.index(value) for value in values.values())
        if None in order or len(numbers) < FEWEST_VALUES or order in known:
            continue
        known.add(order)
        for end, beyond, value in (("lowest", "lower", numbers[0]), ("highest", "higher", numbers[-1])):
            count = sum(values[name] == value for name in chosen)
            if count:
                who = "The one model" if len(chosen) == 1 else f"{count} of {len(chosen)} models"
                what = f"the {end} {setting} that was tried, {value:g}"
                out.append(f"{who} chose {what}: whether a {beyond} one suits better is not known.")
    return out


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
