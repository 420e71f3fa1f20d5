"""The bill of materials: what is installed here that fedprune needs, and how CycloneDX writes it.

Names, versions and licences come from the metadata of what is installed, so a bill is at hand
wherever fedprune runs. It holds no time and no chance: the same packages give the same bytes.
"""

import csv
import hashlib
import json
import platform
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.errors import ConfigError

SPECIFICATION = "1.6"
"""The version of CycloneDX (ECMA-424) that documents are written in."""

_TROVE = "License :: "
_SPDX = {
    "OSI Approved :: Apache Software License": "Apache-2.0",
    # Which of the BSD licences it is, this classifier does not say.
    "OSI Approved :: BSD License": "LicenseRef-BSD",
    "OSI Approved :: ISC License (ISCL)": "ISC",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "Public Domain": "LicenseRef-Public-Domain",
}
_LONGEST_WORDS = 100

_MOVED = (".dist-info", ".data", "..")


@dataclass(frozen=True, slots=True)
class Component:
    """A distribution: canonical name, version, licence, hash of its files, names of what it needs.

    ``licence`` is an SPDX expression, or else the metadata's own words, empty if it has none.
    ``files_hash`` is `files_hash`'s, empty where it is not known.
    """

    name: str
    version: str
    licence: str = ""
    files_hash: str = ""
    needs: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        """The package URL."""
        return f"pkg:pypi/{self.name}@{self.version.replace('+', '%2B')}"


@dataclass(frozen=True, slots=True)
class Bill:
    """A distribution and all that it needs here, by name."""

    root: Component
    components: tuple[Component, ...]

    def document(self) -> dict[str, Any]:
        """Return the bill as CycloneDX, its serial number derived from all the rest."""
        known = {part.name: part.purl for part in (self.root, *self.components)}
        runtime = f"{platform.python_version()} {platform.system()} {platform.machine()}"
        content: dict[str, Any] = {
            "bomFormat": "CycloneDX",
            "specVersion": SPECIFICATION,
            "version": 1,
            "metadata": {
                "component": _entry(self.root, "application"),
                "properties": [{"name": "fedprune:python", "value": runtime}],
            },
            "components": [_entry(part, "library") for part in self.components],
            "dependencies": [
                {
                    "ref": part.purl,
                    "dependsOn": [known[name] for name in part.needs if name in known],
                }
                for part in (self.root, *self.components)
            ],
        }
        serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
        return content | {"serialNumber": serial.urn}

    def to_json(self) -> bytes:
        """Return `document` in one form, byte for byte."""
        return json.dumps(self.document(), indent=1, sort_keys=True).encode() + b"\n"


def installed_bill(name: str = "fedprune") -> Bill:
    """Return the bill of an installed distribution, without its optional extras.

    Raises:
        ConfigError: it, or something it needs, is not installed.
    """
    found: dict[str, Component] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), "")]
    while waiting:
        entry = waiting.pop()
        if entry in asked:
            continue
        asked.add(entry)
        part = _installed(entry[0])
        found.setdefault(entry[0], component_of(part))
        for needed in _needed(part, entry[1]):
            waiting += [(canonicalize_name(needed.name), extra) for extra in ("", *needed.extras)]
    root = found.pop(canonicalize_name(name))
    return Bill(root, tuple(found[part] for part in sorted(found)))


def components_of(names: Iterable[str]) -> tuple[Component, ...]:
    """Return installed distributions, by name; raise `ConfigError` if one is missing."""
    return tuple(component_of(_installed(name)) for name in sorted(names))


def component_of(installed: Distribution) -> Component:
    """Read the metadata of an installed distribution."""
    return Component(
        canonicalize_name(installed.metadata["Name"]),
        installed.version,
        _licence(installed),
        files_hash(installed.read_text("RECORD") or "") if not _editable(installed) else "",
        tuple(sorted({canonicalize_name(part.name) for part in _needed(installed)})),
    )


def files_hash(record: str) -> str:
    """Return the SHA-256 over paths and hashes of a RECORD's files, in hexadecimal.

    It is the same for a wheel and wherever that is installed, for it leaves out what installers
    write or move: the metadata folder, scripts, data and compiled files. Empty if nothing is left.
    """
    lines = sorted(
        f"{path} {digest}\n"
        for path, digest, *_ in csv.reader(record.splitlines())
        if digest and not path.partition("/")[0].endswith(_MOVED)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""


def spdx(licence: str) -> str:
    """Return a licence expression in its canonical form, empty if it is none."""
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return ""


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        remedy = "install it with all it needs, as `make setup` does"
        raise ConfigError(f"{name} is not installed: {remedy}") from None


def _needed(part: Distribution, extra: str = "") -> Iterator[Requirement]:
    """Yield what a distribution needs on this machine, by itself or for one of its extras."""
    for requirement in map(Requirement, part.requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _editable(part: Distribution) -> bool:
    origin = json.loads(part.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


def _licence(part: Distribution) -> str:
    fields = ("License-Expression", "License")
    said = next((line for key in fields for line in part.metadata.get_all(key) or ()), "")
    trove = [
        line.removeprefix(_TROVE)
        for line in part.metadata.get_all("Classifier") or ()
        if line.startswith(_TROVE)
    ]
    # Two classifiers may mean "both" or "either": "both" takes nothing for granted.
    return (
        spdx(said)
        or " AND ".join(_SPDX.get(name, name) for name in trove)
        or said.partition("\n")[0][:_LONGEST_WORDS]
    )


def _entry(part: Component, kind: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": kind,
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
    }
    if part.licence:
        known = spdx(part.licence)
        entry["licenses"] = [
            {"expression": known} if known else {"license": {"name": part.licence}}
        ]
    if part.files_hash:
        entry["properties"] = [{"name": "fedprune:files-sha256", "value": part.files_hash}]
    return entry
