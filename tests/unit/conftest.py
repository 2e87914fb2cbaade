"""What unit tests share: a python-ldap that needs no C library."""

from __future__ import annotations

import sys

import pytest

from tests.standins.python_ldap import FakeLibrary


@pytest.fixture
def python_ldap(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    """What stands in for python-ldap, whether that is installed or not."""
    library = FakeLibrary()
    for name, module in library.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return library
