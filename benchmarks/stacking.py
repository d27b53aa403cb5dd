"""Which architectures can be trained as one, and why others cannot: ``python benchmarks/stacking.py``.

For each, the gradients of two models trained as one are compared with those of each by itself, on the model at hand
with two layers. Prints a table; exits with 1 when an architecture of ``benchmarks/architectures.py`` gives no reason.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

from architectures import TYPES  # type: ignore[import-not-found]
from tabulate import tabulate

from rote_bench.errors import UserError
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.names import known_types
from rote_bench.models.stacking import stackable
from rote_bench.models.statespace import quicken

SMALL = {"layers": 2, "width": 64, "heads": 2}


def row(model_type: str) -> tuple[str, str, str, str]:
    """Type, whether it stacks, what the proof says, and its processor seconds."""
    try:
        model = FromConfig().load(ModelRequest(f"{model_type}-nano", 64, 16, pad_token_id=0, overrides=SMALL)).model
    except UserError as error:
        return model_type, "", f"not made: {error.what}", ""
    except Exception as error:  # what a configuration does not bear, each in its own way
        return model_type, "", f"not made: {type(error).__name__}: {str(error).strip()[:100]}", ""
    quicken(model)
    before = time.process_time()
    check = stackable(model)
    return model_type, "yes" if check.ok else "no", check.detail, f"{time.process_time() - before:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", default=TYPES, help="model types (default: twelve that differ)")
    parser.add_argument("--all", action="store_true", help="every model type of the installed transformers")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for model_type in sorted(known_types()) if options.all else options.types:
        rows.append(row(model_type))
        print(*rows[-1], file=sys.stderr, flush=True)
    print(tabulate(rows, ("type", "stacks", "proof", "CPU s"), tablefmt="github", disable_numparse=True))
    print(f"\n{sum(r[1] == 'yes' for r in rows)} of {len(rows)} stack")
    return int(any(not r[2] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
