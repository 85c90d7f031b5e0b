"""A run that ended anyhow, and one that goes on with it, come to what one run alone would have come to."""

from __future__ import annotations

from pathlib import Path

from tests.crashes import killed_until_done, outcome, run, write_lines


def test_a_run_that_is_killed_again_and_again_comes_to_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    calm, shaken = tmp_path / "calm", tmp_path / "shaken"
    for folder in (calm, shaken):
        folder.mkdir()
        write_lines(folder / "in.log", 150_000)
    expected = outcome(calm, run(calm))
    last, advanced = killed_until_done(shaken, kills=8, seed=1, longest=0.5)
    assert outcome(shaken, last) == expected
    assert advanced > 0
