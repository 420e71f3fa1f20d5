import json
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import FedpruneError
from tests.supply import vulnerabilities
from tests.supply.vulnerabilities import audited, told

REACHED: dict[str, Any] = {
    "dependencies": [
        {"name": "ash", "version": "1.0", "vulns": []},
        {"name": "birch", "version": "2.0", "vulns": []},
        {"name": "elm", "skip_reason": "not found"},
    ],
    "fixes": [],
}


def saying(out: str = "", err: str = "", code: int = 0) -> tuple[str, ...]:
    """Return a command that ends so, whatever else it is given."""
    script = f"import sys; print({out!r}); print({err!r}, file=sys.stderr); sys.exit({code})"
    return (sys.executable, "-c", script)


def test_what_was_checked_is_told_and_what_was_not() -> None:
    report = audited(Path("lock"), saying(json.dumps(REACHED)))
    assert report == REACHED
    assert told(report) == "no known vulnerability in 2 packages; not checked: elm"
    assert told({"dependencies": REACHED["dependencies"][:2]}).endswith("in 2 packages")


def test_a_vulnerability_is_an_error_with_its_remedy() -> None:
    found = [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}]
    entries = [{"name": "ash", "version": "1.0", "vulns": found}]
    report = audited(Path("lock"), saying(json.dumps({"dependencies": entries}), code=1))
    said = "ash 1.0: PYSEC-1, repaired in 1.1; ash 1.0: PYSEC-2, repaired in no version yet: renew"
    with pytest.raises(FedpruneError, match=f"^{said} the lock"):
        told(report)


def test_a_report_on_nothing_is_no_good_news() -> None:
    assert told({"dependencies": REACHED["dependencies"][2:]}).startswith("not checked")
    assert told(None).startswith("not checked")


def test_a_registry_out_of_reach_is_told_from_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert audited(Path("lock"), saying(err="a\nMax retries exceeded with url", code=1)) is None
    with pytest.raises(FedpruneError, match="pip-audit ended with 2: no such option"):
        audited(Path("lock"), saying(err="usage\nno such option", code=2))
    monkeypatch.setattr(vulnerabilities, "SECONDS", 0.2)
    assert audited(Path("lock"), (sys.executable, "-c", "import time; time.sleep(60)")) is None


def test_pip_audit_itself_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    lock = tmp_path / "lock"
    lock.write_text("rich==14.3.4\n")
    assert audited(lock) is None
    lock.write_text("rich=14.3.4\n")
    with pytest.raises(FedpruneError, match="pip-audit ended with"):
        audited(lock)
