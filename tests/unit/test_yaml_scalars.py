"""yaml_scalars: texts without quotes mean what PyYAML makes of them, and nothing that surprises."""

from __future__ import annotations

import math
from datetime import date

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from imds_proxy.yaml_scalars import read_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-17", -17),
        ("+1_000", 1000),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.0e+3", 1000.0),
        ("-.inf", -math.inf),
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
    ],
)
def test_numbers_and_truth_values(text: str, value: object) -> None:
    """With their types."""
    read = read_scalar(text)
    assert (read, type(read)) == (value, type(value))


def test_not_a_number() -> None:
    """YAML has a word for it."""
    assert math.isnan(float(read_scalar(".nan")))


@pytest.mark.parametrize(
    "text",
    ["", "web1", "012345670123", "08", "190:20:30", "0b101", "2026-11-23", "1e3", "tRUE", "y", "1" * 5000],
)
def test_the_rest_stays_text(text: str) -> None:
    """Account ids above all: to YAML a leading zero makes an octal number, colons one to base 60."""
    assert read_scalar(text) == text


@given(st.text(alphabet="0123456789+-._:exEafinINFboOyYnNsStTrRuUlLZ ", max_size=12) | st.text(max_size=8))
@example("1_000.5")
@example("0x_")
@example("._1")
def test_as_pyyaml_reads_it_or_as_text(text: str) -> None:
    """Where it is not the text itself, it is what the old program's loader gave."""
    read = read_scalar(text)
    if isinstance(read, str):
        assert read == text
        return
    known = yaml.safe_load(text)
    assert not isinstance(known, date)
    assert type(known) is type(read)
    assert known == read or math.isnan(known)
