"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser

from tests import browser as chrome

collect_ignore = ["fuzz.py", "soak.py"]  # the first wants atheris, which only `make soak` installs

# Time limits of single examples would make slow machines fail; how many there are bounds the whole instead.
settings.register_profile(
    "streamlab",
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("streamlab")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chrome.chromium() is None:
        missing = "there is no Chromium here (apt-get install chromium)"
        if chrome.is_required():
            pytest.fail(missing)
        pytest.skip(missing)
    with chrome.opened() as opened:
        yield opened
