"""What the anatomy finds in one model, or in every architecture."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..strangers import reason_of
from .load import ModelProvider, ModelRequest

BEHAVIOUR = ("causal", "right_padding", "trains")
NEEDED = (*BEHAVIOUR, "no_op", "last_block", "lens")
COLUMNS = {"lens": "lens", "mixer": "parts_sum", "MLP": "mlp", "heads": "heads", "MLP units": "units"}


def check(
    name: str, providers: Iterable[ModelProvider], *, device: str = "cpu", trust_remote_code: bool = False
) -> dict[str, Any]:
    """Load a model and prove its structure.

    ``proved``: every proof holds that diagnostics of blocks and lens need, and a model that can be trained learns.
    ``partial``: it answers and learns, and for the reason given not all diagnostics can look into it. ``refused``: it
    cannot be used, for the reason given. ``failed``: it could not be built, or its own code failed. Weights that are
    not pretrained are disturbed first, so that no proof holds because a weight starts as zero or one.

    Raises:
        UserError: when no provider knows the name.
    """
    from transformers.utils import logging as transformers_logging

    from .anatomy import Anatomy
    from .names import parse
    from .provided import check_loaded
    from .wrapped import causal, check_rows

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    provider = next((p for p in providers if p.matches(name)), None)
    if provider is None:
        parse(name)
        raise UserError(f"no provider knows the model {name!r}", where="MODEL")
    request = ModelRequest(
        name,
        vocab_size=128,
        max_length=32,
        pad_token_id=0,
        eos_token_id=2,
        device=device,
        trust_remote_code=trust_remote_code,
        needs_tokenizer=False,
    )
    result: dict[str, Any] = {
        "model_type": "",
        "name": name,
        "status": "failed",
        "reason": None,
        "parameters": None,
        "checks": {},
    }
    try:
        loaded = provider.load(request)
    except UserError:
        raise
    except Exception as error:  # any architecture's own code may fail on a configuration; that is the answer
        result["reason"] = reason_of(error, 300)
        return result
    check_loaded(provider, request, loaded)
    result["model_type"] = loaded.model_type
    result["parameters"] = sum(p.numel() for p in loaded.model.parameters())
    own = loaded.source == "pretrained" or not loaded.trainable
    try:
        model = loaded.model
        if loaded.foreign:
            model = causal(model, name)
            check_rows(model)
        if not own:
            _disturb(model)
        checks = dict(Anatomy.of(model).checks)
        if not own:
            checks["trains"] = _trains(model, foreign=loaded.foreign)
    except UserError as error:
        result.update(status="refused", reason=error.what)
        return result
    except Exception as error:  # as above: probing runs the architecture's own code
        result["reason"] = reason_of(error, 300)
        return result
    result["checks"] = {key: {"ok": c.ok, "detail": c.detail} for key, c in checks.items()}
    missing = [key for key in NEEDED if key in checks and not checks[key].ok]
    result["status"] = "refused" if {*missing} & {*BEHAVIOUR} else "partial" if missing else "proved"
    if result["status"] == "refused":
        missing = [key for key in missing if key in BEHAVIOUR]
    same = len({checks[key].detail for key in missing}) == 1
    said = [checks[missing[0]].detail] if same else [f"{key}: {checks[key].detail}" for key in missing]
    result["reason"] = "; ".join(said) or None
    return result


def survey(
    size: str,
    providers: Sequence[ModelProvider],
    *,
    types: Iterable[str] | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict[str, Any]]:
    """``check`` of every causal model type at one size; a type that fails harms no other.

    Args:
        types: the model types, by default all of the installed transformers.
        progress: told each name before its turn.
    """
    from .names import known_types

    found = []
    gc.collect()
    gc.freeze()  # what was there before is not looked through after each model
    for model_type in types if types is not None else known_types():
        name = f"{model_type}-{size}"
        progress(name)
        try:
            result = check(name, providers)
        except UserError as error:
            result = {"name": name, "status": "refused", "reason": error.what, "parameters": None, "checks": {}}
        found.append({**result, "model_type": model_type})
        gc.collect()
    gc.unfreeze()
    return found


def table(results: Sequence[Mapping[str, Any]], size: str = "nano") -> str:
    """A survey as a Markdown page that names the version of transformers it was made with."""
    import transformers

    proved = [r for r in results if r["status"] == "proved"]
    partial = [r for r in results if r["status"] == "partial"]
    named = [r for r in proved if r["checks"]["parts_sum"]["ok"]]
    lines = [
        "# Model types",
        "",
        f"Every causal model type of transformers {transformers.__version__}, surveyed at the size {size} with",
        f"`rote-bench check-model --all --size {size}`: {len(proved)} of {len(results)} proved, {len(named)} of them",
        f"with attention or another mixer in every block. Partial: {len(partial)}, of which what they answer and how",
        "they learn is measured all the same. A dash is a part that was not found; diagnostics that need it are not",
        "applicable, and the report says why.",
        "",
        "| type | status | parameters | " + " | ".join(COLUMNS) + " | why |",
        "|---|---|---:|" + "---|" * (len(COLUMNS) + 1),
    ]
    for r in results:
        cells = ["yes" if r["checks"].get(key, {}).get("ok") else "-" for key in COLUMNS.values()]
        size = "" if r["parameters"] is None else f"{r['parameters'] / 1e6:.2f}M"
        reason = (r["reason"] or "").replace("|", "\\|")
        lines.append(f"| `{r['model_type']}` | {r['status']} | {size} | {' | '.join(cells)} | {reason} |")
    return "\n".join(lines) + "\n"


def _disturb(model: Any) -> None:
    """Add small noise to every weight."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((0.02 * noise).to(parameter))


def _trains(model: Any, *, foreign: bool, steps: int = 5) -> Any:
    """Whether a few steps of AdamW on one batch lower its loss; changes the weights.

    Raises:
        UserError: when a snapshot of a model from elsewhere would be another one.
    """
    import torch

    from .outside import check_kept, descent, loss_of
    from .probe import Check
    from .wrapped import words_of

    device = next(model.parameters()).device
    words = min(100, words_of(model))
    ids = torch.randint(min(3, words - 1), words, (4, 8), generator=torch.Generator().manual_seed(0)).to(device)
    if foreign:
        check_kept(model, ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    losses = [float(loss) for loss in descent(model, ids, optimizer, steps)]
    losses.append(float(loss_of(model, ids).detach()))
    model.eval()
    return Check(losses[-1] < losses[0], f"{steps} steps take the loss from {losses[0]:.3f} to {losses[-1]:.3f}")
