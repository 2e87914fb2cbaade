"""Where STS is and whose key signs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class StsSettings:
    """Where STS is and whose key signs. Without a key, profile: boto3's own search, but never an IMDS."""

    region: str
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    profile: str | None = None
    sts_endpoint: str | None = None
    https_proxy: str | None = None
    ca_bundle: Path | None = None
    use_instance_metadata: bool = False

    def signer(self, environ: Mapping[str, str]) -> str:
        """Return which key signs, as far as that is known without asking boto3 (which may not be loaded)."""
        if self.access_key is not None:
            return self.access_key
        if self.profile is not None:
            return f"profile {self.profile}"
        return environ.get("AWS_ACCESS_KEY_ID") or f"profile {environ.get('AWS_PROFILE', 'default')}"

    def endpoint(self, environ: Mapping[str, str]) -> str:
        """Return the endpoint's URL if one is set, else the region's name."""
        return (
            self.sts_endpoint
            or environ.get("AWS_ENDPOINT_URL_STS")
            or environ.get("AWS_ENDPOINT_URL")
            or self.region
        )
