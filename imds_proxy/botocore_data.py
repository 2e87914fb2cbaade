"""botocore's data files without what a daemon that only calls STS and IAM never looks at."""

from __future__ import annotations

import gc
import json
from typing import Any

from botocore.loaders import Loader

_SERVICES = ("iam", "sts")
_ENDPOINTS = "endpoints"


class SmallLoader(Loader):
    """botocore's loader, with the endpoints of two services instead of four hundred.

    They are the largest thing that boto3 keeps: a tenth of this daemon's memory. To be made before
    boto3 is imported: what is read and dropped here leaves its memory to be used again only as long as
    nothing that stays has been put between.
    """

    def __init__(self) -> None:
        super().__init__()
        self._endpoints = _read_endpoints()
        gc.collect()

    def load_data_with_path(self, name: str) -> tuple[dict[str, Any], str]:
        """Return the data called `name` and the path it was read from."""
        return self._endpoints if name == _ENDPOINTS else super().load_data_with_path(name)


def _read_endpoints() -> tuple[dict[str, Any], str]:
    data, path = Loader().load_data_with_path(_ENDPOINTS)
    for partition in data["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in _SERVICES if name in services}
    # By way of text, so that no small part keeps a large one alive.
    return json.loads(json.dumps(data)), path
