"""Budget of bytes: sums are exact whatever happens, and the largest is found without looking at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web.edge.budgets import ByteBudget

STEP = 512
"""Sizes within one step count as equal."""


def test_the_largest_goes_first() -> None:
    """The owner with the most bytes is the largest, then the next one, until all have gone."""
    budget: ByteBudget[str] = ByteBudget(1000)
    for name, size in (("small", 10), ("large", 9000), ("middle", 3000)):
        budget.set(name, size)
    order = []
    while budget.total:
        order.append(budget.largest())
        budget.set(order[-1], 0)
    assert order == ["large", "middle", "small"]


def test_of_equals_the_oldest_goes_first() -> None:
    """Of several as large, the one that has so much for longest is the largest."""
    budget: ByteBudget[str] = ByteBudget(0)
    for name in ("first", "second", "third"):
        budget.set(name, 600)
    budget.set("first", 610)
    assert budget.largest() == "second"


def test_what_is_exceeded() -> None:
    """The budget may be used up, and not one byte more; giving back makes room again."""
    budget: ByteBudget[int] = ByteBudget(1000)
    budget.set(1, 600)
    budget.set(2, 400)
    assert (budget.total, budget.is_exceeded) == (1000, False)
    budget.set(2, 401)
    assert (budget.total, budget.is_exceeded) == (1001, True)
    budget.set(1, 0)
    assert (budget.total, budget.is_exceeded) == (401, False)
    budget.set(1, 0)
    assert budget.total == 401


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.one_of(st.just(0), st.integers(0, 3000), st.integers(0, 40_000))),
        max_size=80,
    )
)
def test_sums_are_exact(sizes: list[tuple[int, int]]) -> None:
    """After any changes the total is the sum of what all have, and the largest is the largest by steps."""
    budget: ByteBudget[int] = ByteBudget(20_000)
    known: dict[int, int] = {}
    for owner, size in sizes:
        budget.set(owner, size)
        known.pop(owner, None)
        if size:
            known[owner] = size
        assert budget.total == sum(known.values())
        assert budget.is_exceeded == (budget.total > 20_000)
        if known:
            assert known[budget.largest()] // STEP == max(known.values()) // STEP
    while known:
        gone = budget.largest()
        assert known.pop(gone) // STEP >= max(known.values(), default=0) // STEP
        budget.set(gone, 0)
        assert budget.total == sum(known.values())
    assert budget.total == 0
