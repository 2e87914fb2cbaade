"""recent: a dictionary of bounded size that drops what was asked for longest ago."""

from __future__ import annotations

from imds_proxy.recent import Recent


def test_the_oldest_goes() -> None:
    """A new key makes room for itself: the value goes that was set or asked for longest ago."""
    dropped: list[int] = []
    recent: Recent[str, int] = Recent(2, on_drop=dropped.append)
    recent["a"], recent["b"] = 1, 2
    assert recent.get("a") == 1
    recent["c"] = 3
    assert list(recent.items()) == [("a", 1), ("c", 3)]
    assert dropped == [2]


def test_a_value_is_replaced() -> None:
    """A key that is set again is the newest, and nothing makes room for it."""
    dropped: list[int] = []
    recent: Recent[str, int] = Recent(2, on_drop=dropped.append)
    recent["a"], recent["b"], recent["a"] = 1, 2, 3
    assert list(recent.items()) == [("b", 2), ("a", 3)]
    assert dropped == []


def test_looking_is_not_asking() -> None:
    """Going through keys or values leaves the order as it is."""
    recent: Recent[str, int] = Recent(2)
    recent["a"], recent["b"] = 1, 2
    assert (list(recent), list(recent.keys()), list(recent.values())) == (["a", "b"], ["a", "b"], [1, 2])
    assert "a" in recent
    recent["c"] = 3
    assert "a" not in recent


def test_removing() -> None:
    """What is removed was not dropped to make room; removing what is not there does nothing."""
    dropped: list[int] = []
    recent: Recent[str, int] = Recent(3, on_drop=dropped.append)
    recent["a"], recent["b"], recent["c"] = 1, 2, 3
    assert (recent.pop("a"), recent.pop("a"), recent.get("a")) == (1, None, None)
    del recent["b"]
    assert len(recent) == 1
    recent.clear()
    assert (len(recent), dropped) == (0, [])
