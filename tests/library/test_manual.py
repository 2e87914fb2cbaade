"""docs/library.md: every piece of Python runs, one after the other, and prints what stands below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imds_proxy import federation, inquiry
from tests.standins import manual

if TYPE_CHECKING:
    import pytest

    from tests.standins.aws_process import Aws
    from tests.standins.sign_in import SignIn

PAGE = "docs/library.md"


def test_the_page_runs(aws: Aws, sign_in: SignIn, capsys: pytest.CaptureFixture[str]) -> None:
    """From top to bottom, as a newcomer would type it."""
    aws.add_roles("reader", account="000123456789")
    blocks = manual.blocks(PAGE)
    names: dict[str, Any] = {}
    outputs = 0
    for block, after in zip(blocks, [*blocks[1:], None], strict=False):
        if block.kind != "python":
            continue
        exec(compile(block.text, str(block), "exec"), names)
        printed = capsys.readouterr().out
        expected = after.text if after is not None and after.kind == "text" else ""
        assert printed == expected, block
        outputs += bool(printed)
    assert outputs == len([block for block in blocks if block.kind == "text"]) == 4
    assert [call.outcome for call in aws.calls()] == ["ok"]
    assert len(sign_in.tokens) == 1


def test_the_figures_are_the_codes() -> None:
    """How long each may take."""
    text = manual.read(PAGE)
    provider, sts, sign_in = inquiry.PROVIDER_PATIENCE, federation.STS_PATIENCE, federation.SIGN_IN_PATIENCE
    assert f"A provider has {provider:.0f} s, STS {sts:.0f} s, the sign-in endpoint {sign_in:.0f} s." in text
