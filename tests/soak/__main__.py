"""``python -m tests.soak``: every row of what reliability promises, at full count. ``make soak`` runs it.

Prints a row as soon as it is done; ``--record FILE`` writes the table as a page, ``--only WORD`` runs the rows that have
the word in their name, or that of their module; ``--share 0.1`` a tenth of each count. Exits with 1 if a row does not hold.
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

from tests.soak import connectors, delivery, following, processing
from tests.soak.rows import ROWS

#: The modules whose rows there are, in their order.
MODULES = [module.__name__ for module in (delivery, following, connectors, processing)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    lines, wrong = [], 0
    for name, function in sorted(ROWS.items(), key=lambda row: MODULES.index(row[1].__module__)):
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
        lines.append(f"| {name} | {found} | {time.monotonic() - start:.0f} s |")
        print(lines[-1], flush=True)
    if args.record is not None:
        when = datetime.now(UTC).strftime("%Y-%m-%d")
        machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        head = f"# The last soak\n\n`make soak` on {when}: {machine}. Written by `python -m tests.soak --record`.\n\n"
        args.record.write_text(head + "| given | found | took |\n|---|---|---|\n" + "\n".join(lines) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
