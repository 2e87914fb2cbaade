"""Settings for all tests: hypothesis judges what code does, never how long a busy machine takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("imds-proxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("imds-proxy")
