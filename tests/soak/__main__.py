"""``python -m tests.soak``: every row of what reliability promises, at full count. ``make soak`` runs it.

Prints a row as soon as it is done; ``--record FILE`` writes the table as a page, in which rows that were not run stay;
``--only WORD`` runs the rows that have the word in their name, or in that of their module; ``--share 0.1`` a tenth of each
count. Exits with 1 if a row does not hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.soak import clusters, connectors, delivery, following, processing
from tests.soak.rows import ROWS

#: The modules whose rows there are, in their order.
MODULES = [module.__name__ for module in (delivery, following, connectors, clusters, processing)]
NAMES = sorted(ROWS, key=lambda name: MODULES.index(ROWS[name].__module__))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    table = recorded(args.record) if args.record is not None and args.record.exists() else {}
    today, wrong = datetime.now(UTC).strftime("%Y-%m-%d"), 0
    for name in NAMES:
        function = ROWS[name]
        if args.only not in f"{function.__module__}: {name}":
            continue
        start = time.monotonic()
        try:
            found = function(args.share)
        except pytest.skip.Exception as missing:
            found = f"not run: {missing}"
        except Exception:
            traceback.print_exc()
            found, wrong = f"**does not hold**: {traceback.format_exc().strip().splitlines()[-1]}", wrong + 1
        table[name] = f"| {name} | {found} | {time.monotonic() - start:.0f} s | {today} |"
        print(table[name], flush=True)
    if args.record is not None:
        machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        head = f"# The last soak\n\n`make soak` on {machine}. Written by `python -m tests.soak --record`.\n\n"
        rows = "\n".join(table[name] for name in NAMES if name in table)
        args.record.write_text(f"{head}| given | found | took | on |\n|---|---|---|---|\n{rows}\n")
    return 1 if wrong else 0


def recorded(page: Path) -> dict[str, str]:
    """Return the rows of a page, by name."""
    return {line.split("|")[1].strip(): line for line in page.read_text().splitlines() if line.startswith("| ")}


if __name__ == "__main__":
    sys.exit(main())
