import pytest
from pydantic import ValidationError

from common.bill import Component
from tests.supply import licences
from tests.supply.licences import AllowList, allow_list
from tests.supply.lock import locked_bill, pinned

SOME = AllowList(
    allowed=frozenset({"MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception", "LicenseRef-BSD"}),
    reviewed={"read": "MIT", "wrongly-named": "BSD-3-Clause", "copyleft": "AGPL-3.0-only"},
)


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND BSD-3-Clause AND LicenseRef-BSD", True),
        ("MIT AND (BSD-3-Clause OR GPL-2.0-or-later)", True),
        ("MIT OR BSD-3-Clause AND GPL-2.0-or-later", True),
        ("(MIT OR BSD-3-Clause) AND GPL-2.0-or-later", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0", False),
        ("LicenseRef-Proprietary", False),
    ],
)
def test_an_expression_is_met_by_what_is_allowed(licence: str, allowed: bool) -> None:
    assert SOME.allows(licence) == allowed
    faults = list(SOME.faults([Component("ash", "1.0", licence)]))
    assert len(faults) == (not allowed)
    assert all(f"ash 1.0: {licence} is not allowed: do without" in fault for fault in faults)


def test_an_unknown_licence_is_a_fault_with_a_remedy() -> None:
    (own, none) = SOME.faults([Component("ash", "1.0", "my own"), Component("elm", "2.0")])
    assert own.startswith("ash 1.0: its licence is unknown, for its metadata says 'my own': read")
    assert none.startswith("elm 2.0: its licence is unknown, for its metadata says none: read it")
    assert "`reviewed` in [tool.fedprune.licences]" in own


def test_what_people_read_goes_before_metadata_but_not_before_the_list() -> None:
    assert not list(SOME.faults([Component("read", "1"), Component("wrongly-named", "1", "odd")]))
    (fault,) = SOME.faults([Component("copyleft", "1", "MIT")])
    assert "AGPL-3.0-only is not allowed" in fault


@pytest.mark.parametrize("licence", ["mit", "my own", ""])
def test_the_list_is_written_in_canonical_expressions(licence: str) -> None:
    for fields in (
        {"allowed": [licence], "reviewed": {}},
        {"allowed": [], "reviewed": {"a": licence}},
    ):
        with pytest.raises(ValidationError, match="no SPDX expression"):
            AllowList.model_validate(fields)


def test_all_that_the_lock_installs_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    licences.main()
    assert f"of {len(pinned())} packages are allowed" in capsys.readouterr().out
    # A review that nothing needs is one nobody looks at.
    faults = (
        allow_list().model_copy(update={"reviewed": {}}).faults(locked_bill(pinned()).components)
    )
    assert len(list(faults)) == len(allow_list().reviewed)
