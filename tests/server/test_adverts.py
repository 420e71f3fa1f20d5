import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.crypto.roster import Roster
from common.crypto.session import LastAdvert, Offer
from common.errors import ConfigError, DiskError
from server.adverts import Adverts, Known
from server.store import stored_adverts
from simulations.rehearsal import Rehearsal, seeded_identity

REHEARSAL = Rehearsal.of(3)
NAMES = REHEARSAL.names
ROSTER, SESSION = REHEARSAL.roster, REHEARSAL.session


def offers(sequence: int) -> dict[str, Offer]:
    """Return offers made when the ledgers had so many lines."""
    return replace(REHEARSAL, sequence=sequence).offers


def sequences(adverts: Adverts, roster: Roster = ROSTER) -> dict[str, int]:
    return {
        name: LastAdvert.from_bytes(last).advert.sequence
        for name, last in adverts.of(roster).items()
    }


def test_nothing_is_known_at_first_and_without_keys() -> None:
    adverts = Adverts()
    assert adverts.of(ROSTER) == adverts.of(None) == {}
    adverts.keep(ROSTER, SESSION, offers(7))
    assert adverts.of(None) == {}


def test_each_member_is_shown_its_own_with_the_session() -> None:
    adverts = Adverts()
    adverts.keep(ROSTER, SESSION, offers(7))
    known = adverts.of(ROSTER)
    assert sorted(known) == list(NAMES)
    for name, last in known.items():
        LastAdvert.from_bytes(last).require(ROSTER, name)
        assert LastAdvert.from_bytes(last).session == SESSION.digest()


def test_the_longest_ledger_counts_and_each_change_is_saved() -> None:
    saved: list[int] = []
    adverts = Adverts(save=lambda known: saved.append(len(known)))
    adverts.keep(ROSTER, SESSION, {NAMES[0]: offers(7)[NAMES[0]]})
    adverts.keep(ROSTER, SESSION, offers(5))
    adverts.keep(ROSTER, SESSION, offers(4))
    adverts.keep(ROSTER, SESSION, {})
    assert sequences(adverts) == {NAMES[0]: 7, NAMES[1]: 5, NAMES[2]: 5}
    assert saved == [1, 3]


def test_who_has_new_keys_has_signed_nothing_yet() -> None:
    adverts = Adverts()
    adverts.keep(ROSTER, SESSION, offers(7))
    fresh = {NAMES[0]: seeded_identity(NAMES[0], 9).member(NAMES[0])}
    assert sorted(adverts.of(Roster(members=ROSTER.members | fresh))) == list(NAMES[1:])
    assert sorted(adverts.of(ROSTER.without(NAMES[1]))) == [NAMES[0], NAMES[2]]


def files(folder: Path) -> Iterator[str]:
    return (path.name for path in sorted(folder.iterdir()))


def test_later_runs_of_any_plan_find_what_was_kept(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    assert stored_adverts(state, "aa").of(ROSTER) == {}
    assert list(files(state)) == []
    stored_adverts(state, "aa").keep(ROSTER, SESSION, offers(5))
    for plan in ("aa", "bb"):
        assert sequences(stored_adverts(state, plan)) == dict.fromkeys(NAMES, 5)
    # Two at once: neither writes over the other.
    first, second = stored_adverts(state, "aa"), stored_adverts(state, "bb")
    first.keep(ROSTER, SESSION, offers(9))
    second.keep(ROSTER, SESSION, offers(8))
    assert list(files(state)) == ["adverts-aa.json", "adverts-bb.json"]
    assert sequences(stored_adverts(state, "cc")) == dict.fromkeys(NAMES, 9)


def test_a_write_cut_off_leaves_what_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_adverts(tmp_path, "aa").keep(ROSTER, SESSION, offers(5))

    def crash(path: Path, target: Path) -> None:
        raise OSError("power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(DiskError, match="power is gone"):
            stored_adverts(tmp_path, "aa").keep(ROSTER, SESSION, offers(6))
    assert sequences(stored_adverts(tmp_path, "aa")) == dict.fromkeys(NAMES, 5)


def test_what_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    stored_adverts(tmp_path, "aa").keep(ROSTER, SESSION, offers(5))
    path = tmp_path / "adverts-aa.json"
    good = path.read_bytes()
    known: Known = json.loads(good)
    key, data = next(iter(known.items()))
    for bad in (b"", b"[]", b'{"a": 1}', good[:-3], json.dumps({key: f"{data}00"}).encode()):
        path.write_bytes(bad)
        with pytest.raises(ConfigError, match=r"adverts-aa\.json: no adverts can be read here"):
            stored_adverts(tmp_path, "bb")
