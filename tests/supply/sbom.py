"""`make sbom`: what requirements.lock installs, in CycloneDX, held against its schema."""

from functools import partial
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from common.bill import SPECIFICATION
from common.console import command_line
from common.durable import write_atomically
from common.errors import FedpruneError
from tests.commands import ROOT
from tests.supply.lock import locked_bill, pinned


def require_valid(document: bytes) -> None:
    """Raise `FedpruneError` unless ``document`` fits CycloneDX' own schema."""
    fault = JsonStrictValidator(SchemaVersion.from_version(SPECIFICATION)).validate_str(
        document.decode()
    )
    if fault is not None:
        raise FedpruneError(
            f"the bill of materials does not fit CycloneDX {SPECIFICATION}: {fault}"
        )


def main(folder: Path) -> None:
    """Write the bill into ``folder``."""
    bill = locked_bill(pinned())
    document = bill.to_json()
    require_valid(document)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{bill.root.name}-{bill.root.version}.cdx.json"
    write_atomically(path, document)
    print(f"{len(bill.components)} components in {path}")


if __name__ == "__main__":
    command_line(partial(main, ROOT / "dist"))
