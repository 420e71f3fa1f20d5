"""`make licences`: the licence of all that requirements.lock installs, against an allow list."""

from collections.abc import Iterable, Iterator
from typing import Annotated

from license_expression import Licensing
from pydantic import AfterValidator, BaseModel, ConfigDict

from common.bill import Component, spdx
from common.console import command_line
from common.errors import FedpruneError
from tests.supply.lock import locked_bill, pinned, project

TABLE = "[tool.fedprune.licences] of pyproject.toml"
_licensing = Licensing()


def _canonical(licence: str) -> str:
    if not licence or spdx(licence) != licence:
        raise ValueError(f"{licence!r} is no SPDX expression in canonical form")
    return licence


Licence = Annotated[str, AfterValidator(_canonical)]


class AllowList(BaseModel):
    """The licences that may be used, and what people read where metadata is unclear, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed: frozenset[Licence]
    reviewed: dict[str, Licence]

    def allows(self, licence: str) -> bool:
        """Return whether an SPDX expression can be met by allowed licences alone."""
        parsed = _licensing.parse(licence)
        known = {
            symbol: _licensing.TRUE if symbol.render() in self.allowed else _licensing.FALSE
            for symbol in parsed.symbols
        }
        return bool(parsed.subs(known).simplify() == _licensing.TRUE)

    def faults(self, components: Iterable[Component]) -> Iterator[str]:
        """Say of each component that may not be used why, and what to do."""
        for part in components:
            licence = spdx(self.reviewed.get(part.name, part.licence))
            who = f"{part.name} {part.version}"
            if not licence:
                said = f"says {part.licence!r}" if part.licence else "says none"
                yield (
                    f"{who}: its licence is unknown, for its metadata {said}: read it, and name it"
                    f" under `reviewed` in {TABLE}"
                )
            elif not self.allows(licence):
                yield (
                    f"{who}: {licence} is not allowed: do without the package, or have the licence"
                    f" approved and add it to `allowed` in {TABLE}"
                )


def allow_list() -> AllowList:
    """Return the project's own."""
    return AllowList.model_validate(project()["tool"]["fedprune"]["licences"])


def main() -> None:
    """Say that all may be used, or raise `FedpruneError`."""
    components = locked_bill(pinned()).components
    if faults := list(allow_list().faults(components)):
        raise FedpruneError("; ".join(faults))
    print(f"the licences of {len(components)} packages are allowed")


if __name__ == "__main__":
    command_line(main)
