import json
from pathlib import Path

import pytest

from common.bill import Bill, Component
from common.errors import FedpruneError
from tests.supply.lock import locked_bill, pinned
from tests.supply.sbom import main, require_valid


def test_one_lock_gives_one_valid_document(tmp_path: Path) -> None:
    main(tmp_path / "first")
    main(tmp_path / "second")
    (first,), (second,) = (tmp_path / "first").iterdir(), (tmp_path / "second").iterdir()
    assert first.name == second.name == "fedprune-0.1.0.cdx.json"
    assert first.read_bytes() == second.read_bytes() == locked_bill(pinned()).to_json()
    names = [entry["name"] for entry in json.loads(first.read_bytes())["components"]]
    assert names == sorted(pinned())


def test_own_words_for_a_licence_fit_the_schema() -> None:
    require_valid(Bill(Component("app", "1"), (Component("ash", "1", "my own"),)).to_json())


@pytest.mark.parametrize(
    ("old", "new"), [(b'"library"', b'"book"'), (b'"purl"', b'"url"'), (b"urn:uuid", b"uuid")]
)
def test_a_document_outside_the_schema_is_refused(old: bytes, new: bytes) -> None:
    document = Bill(Component("app", "1"), (Component("ash", "1"),)).to_json()
    assert old in document
    with pytest.raises(FedpruneError, match=r"does not fit CycloneDX 1\.6"):
        require_valid(document.replace(old, new))
