"""Settings for all tests: hypothesis judges what code does, never how long a busy machine takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("imds-proxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# By hand, with `--hypothesis-profile long` on the command line: pytest loads that one after this.
settings.register_profile("long", settings.get_profile("imds-proxy"), max_examples=20_000)
settings.load_profile("imds-proxy")
