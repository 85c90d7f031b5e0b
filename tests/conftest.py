"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Time limits of single examples would make slow machines fail; how many there are bounds the whole instead.
settings.register_profile(
    "streamlab",
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("streamlab")
