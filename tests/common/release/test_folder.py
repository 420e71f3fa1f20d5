"""What was said of a release stays with it: a full disk takes nothing back."""

from pathlib import Path

import pytest

import common.release.folder
from common.errors import DiskError
from common.release.folder import VERDICTS, WITHDRAWAL, Folder
from tests.common.consent.test_acts import ALICE, BOB
from tests.common.release.test_standing import released, said, withdrawal


def test_a_full_disk_takes_no_withdrawal_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, folder = released(), released(number=2), Folder(tmp_path)
    folder.begin(first)
    folder.withdraw(withdrawal(first, ALICE, BOB))

    def full(*_: object) -> None:
        raise DiskError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(common.release.folder, "write_atomically", full)
        with pytest.raises(DiskError):
            folder.begin(second)
    assert folder.bundle == first
    assert folder.withdrawal(first.digest) == withdrawal(first, ALICE, BOB)


def test_what_was_said_of_an_earlier_release_counts_for_no_later_one(tmp_path: Path) -> None:
    first, second, folder = released(), released(number=2), Folder(tmp_path)
    folder.begin(first)
    words, taken = said(first, "ash", "birch"), withdrawal(first, ALICE, BOB)
    folder.say(words)
    folder.withdraw(taken)
    left = {name: (tmp_path / name).read_bytes() for name in (VERDICTS, WITHDRAWAL)}
    folder.begin(second)
    assert not any((tmp_path / name).exists() for name in left)
    # As a crash may leave them.
    for name, data in left.items():
        (tmp_path / name).write_bytes(data)
    assert (folder.verdicts(second.digest), folder.withdrawal(second.digest)) == ((), None)
    assert (folder.verdicts(first.digest), folder.withdrawal(first.digest)) == (words, taken)
