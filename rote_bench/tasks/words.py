"""Pools of single-word names and relations, extended by numbering when a task needs more."""

from __future__ import annotations

_NAMES = (
    "Ada Alan Alma Amos Anna Arlo Asta Axel Bea Bela Bert Bob Boris Britt Carl Carol Cato Clara Cleo Cora Dag Dan "
    "Dana Dora Drew Edda Edgar Ella Elmo Emil Emma Enid Eric Esme Eva Ezra Faye Felix Finn Flora Frank Freya Gail "
    "Gita Glen Greta Gus Hana Hans Hazel Heidi Hugo Ida Igor Ines Ingrid Iris Ivan Ivy Jack Jana Jens Joan Joel "
    "Jonas Judy June Kai Karl Kate Kira Knut Lara Lars Lea Leo Lena Lina Liv Lois Lotte Lou Luca Lucy Luis Lyle "
    "Mae Maja Marc Marie Mats Max Maya Mia Mila Milo Mira Moira Nadia Ned Nell Nico Nils Nina Noah Nora Odin Olga "
    "Olive Omar Opal Oscar Otto Owen Paul Penny Petra Phil Pia Quinn Rafe Ralf Rhea Rita Rolf Romy Rosa Ruth Ryan "
    "Sami Sara Saul Selma Sid Silas Sofia Stan Stella Sven Tara Ted Tess Theo Tilda Timo Toni Uma Ursa Vera Viggo "
    "Vito Wanda Wes Willa Wim Xena Yara Yves Zara Zeno Zoe "
).split()

_RELATIONS = (
    "mentor teacher friend doctor lawyer tailor barber coach cousin uncle aunt boss rival tutor tenant landlord "
    "neighbour partner editor agent nurse driver banker baker gardener guard guide host idol judge "
).split()


def _extended(pool: list[str], count: int) -> list[str]:
    rounds = ((i // len(pool), pool[i % len(pool)]) for i in range(count))
    return [word if turn == 0 else f"{word}{turn + 1}" for turn, word in rounds]


def names(count: int) -> list[str]:
    """``count`` different names of people."""
    return _extended(_NAMES, count)


def relations(count: int) -> list[str]:
    """``count`` different nouns for what one person can be to another."""
    return _extended(_RELATIONS, count)
