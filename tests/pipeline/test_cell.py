"""Folders of cells: readable, the same whenever a cell is run, and of one model only."""

from __future__ import annotations

from rote_bench.pipeline.cell import folder_name


def test_names_in_any_alphabet_have_folders_of_their_own() -> None:
    assert folder_name("gpt2-nano") == "gpt2-nano"
    assert folder_name("hf:./lab@site model") == "hf-.-lab-site-model"
    names = ["hf:модель-а", "hf:модель-б", "hf:模型", "hf:caf\u00e9", "hf:cafe\u0301", "模型", "型模"]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names) and all(folder.isascii() and "/" not in folder for folder in folders)
    assert folder_name(names[0]) == folders[0]
