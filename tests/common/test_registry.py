import pytest

from common.registry import Registry


def test_registered_name_is_found() -> None:
    registry: Registry[int] = Registry("number")
    assert registry.register("two")(2) == 2
    registry.register("one")(1)
    assert registry.require("two") == 2
    assert registry.names == ("one", "two")


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    registry: Registry[int] = Registry("number")
    registry.register("two")(2)
    registry.register("one")(1)
    with pytest.raises(ValueError, match="unknown number 'three'; known: one, two"):
        registry.require("three")
