"""A path proves one leaf at one place, for every size of tree."""

import pytest

from common.crypto import merkle
from common.crypto.refusals import ShareAlteredError


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33])
def test_every_leaf_is_proved_at_its_place_only(count: int) -> None:
    leaves = [bytes([index]) for index in range(count)]
    root = merkle.root(leaves)
    for index, path in enumerate(merkle.paths(leaves)):
        merkle.require(root, leaves[index], index, count, path)
        for other in set(range(count)) - {index}:
            with pytest.raises(ShareAlteredError):
                merkle.require(root, leaves[index], other, count, path)
        for bad in (path + b"x", path[:-1], path + bytes(32)):
            if bad != path:
                with pytest.raises(ShareAlteredError):
                    merkle.require(root, leaves[index], index, count, bad)
        with pytest.raises(ShareAlteredError):
            merkle.require(root, b"other", index, count, path)


def test_order_and_number_of_leaves_enter_the_root() -> None:
    roots = {merkle.root(leaves) for leaves in ([b"a"], [b"a", b"a"], [b"a", b"b"], [b"b", b"a"])}
    assert len(roots) == 4


def test_a_node_does_not_pass_for_a_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    left, right = merkle.paths(leaves)[2][32:], merkle.paths(leaves)[0][32:]
    with pytest.raises(ShareAlteredError):
        merkle.require(merkle.root(leaves), left + right, 0, 1, b"")
