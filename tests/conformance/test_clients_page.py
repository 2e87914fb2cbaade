"""docs/clients.md says what the registry says; make conformance adds that it is true."""

from __future__ import annotations

from dataclasses import replace

from tests.conformance.clients import Cannot, all_clients
from tests.conformance.clients_page import PAGE, read_versions, render
from tests.conformance.modes import Mode


def test_page_is_what_the_registry_says() -> None:
    """A client, a mode or a reason that is changed is a change of the page: by a run of all."""
    page = PAGE.read_text("utf-8")
    assert page == render(all_clients(), read_versions(page))


def test_cell_that_is_no_longer_green_changes_the_page() -> None:
    clients = all_clients()
    page = render(clients, {"boto3": "1.2.3"})
    assert read_versions(page)["boto3"] == "1.2.3"
    cut = [replace(client, modes={**client.modes, Mode.IPV6: Cannot("some reason")}) for client in clients]
    changed = render(cut, {"boto3": "1.2.3"})
    assert changed != page
    assert "- **boto3**, *IPv6*: no: some reason\n" in changed
