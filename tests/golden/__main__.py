"""``python -m tests.golden [ROOM...]``: write the numbers of rooms whose version was raised; ``--snapshots`` first
trains the model again that diagnostics are tried on."""

from __future__ import annotations

import json
import sys

import torch

from .numbers import HERE, SNAPSHOTS, all_rooms, encoded, made, small_model

FILE = HERE / "golden.json"


def train_snapshots() -> None:
    from safetensors.torch import save_file

    from rote_bench.evaluation import matches

    model = small_model()
    _, data = made()
    rows = encoded(len(data.train))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    noisy = rows.rows(torch.tensor(list(data.train.noisy)))
    generator = torch.Generator().manual_seed(0)
    states = {}
    for step in range(2400):
        if step == 1200:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3
        part = rows.rows(torch.randperm(len(rows), generator=generator)[:256])
        logits = model(input_ids=part.input_ids).logits
        wanted = part.targets != -100
        loss = torch.nn.functional.cross_entropy(logits[wanted], part.targets[wanted])
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            (memorised,), (right,) = matches(model, [noisy]), matches(model, [rows])
            print(step + 1, float(loss.detach()), float(memorised.double().mean()), float(right.double().mean()))
            if "pre" not in states and float(right.double().mean()) > 0.8:
                states["pre"] = {k: v.float().clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    states["post"] = {k: v.float().clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    for file in SNAPSHOTS.values():
        save_file(states[file], HERE / f"{file}.safetensors")


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if "--snapshots" in arguments:
        train_snapshots()
    wanted = [a for a in arguments if not a.startswith("-")]
    known = json.loads(FILE.read_text()) if FILE.is_file() else {}
    rooms = all_rooms()
    kept = {name: entry for name, entry in known.items() if name in rooms}
    for name, (version, compute) in rooms.items():
        if name in wanted or kept.get(name, {}).get("version") != version:
            kept[name] = {"version": version, "numbers": compute()}
            print("written", name, version)
    FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
