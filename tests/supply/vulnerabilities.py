"""`make vulnerabilities`: known ones of what requirements.lock pins, if a registry tells them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.console import command_line
from common.errors import FedpruneError
from tests.supply.lock import LOCK

AUDIT = (sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--format", "json")
SECONDS = 300
UNREACHABLE = re.compile(r"[Cc]onnect|Max retries|timed out|Proxy")


def audited(lock: Path, command: tuple[str, ...] = AUDIT) -> dict[str, Any] | None:
    """Return pip-audit's report on a lock, or None if it reached nobody to ask.

    Raises:
        FedpruneError: it failed for another reason.
    """
    try:
        ran = subprocess.run(
            (*command, "--progress-spinner", "off", "--requirement", str(lock)),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if ran.stdout.startswith("{"):
        report: dict[str, Any] = json.loads(ran.stdout)
        return report
    last = ran.stderr.strip().rpartition("\n")[2]
    if UNREACHABLE.search(last):
        return None
    raise FedpruneError(f"pip-audit ended with {ran.returncode}: {last}")


def told(report: dict[str, Any] | None) -> str:
    """Return what was checked; raise `FedpruneError` if anything was found.

    What pip-audit leaves out was not checked, though it ends well if that is everything.
    """
    if report is None:
        return "not checked: no registry was reached that knows of vulnerabilities"
    checked = [entry for entry in report["dependencies"] if "vulns" in entry]
    skipped = [entry["name"] for entry in report["dependencies"] if "vulns" not in entry]
    if not checked:
        return "not checked: the registry that was reached tells of no package's vulnerabilities"
    found = [
        f"{entry['name']} {entry['version']}: {fault['id']}, repaired in"
        f" {', '.join(fault['fix_versions']) or 'no version yet'}"
        for entry in checked
        for fault in entry["vulns"]
    ]
    if found:
        raise FedpruneError(f"{'; '.join(found)}: renew the lock by `make lock`")
    left = f"; not checked: {', '.join(sorted(skipped))}" if skipped else ""
    return f"no known vulnerability in {len(checked)} packages{left}"


def main() -> None:
    """Print what was checked."""
    print(told(audited(LOCK)))


if __name__ == "__main__":
    command_line(main)
