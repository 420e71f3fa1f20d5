import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from common.bill import Bill, Component, component_of, files_hash, installed_bill, spdx
from common.errors import ConfigError

Install = Callable[..., PathDistribution]
RECORD = """\
ash/__init__.py,sha256=aa,1
"ash/a,b.py",sha256=bb,2
ash/__pycache__/__init__.cpython-311.pyc,,
ash-1.0.dist-info/METADATA,sha256=cc,3
ash-1.0.dist-info/RECORD,,
../../../bin/ash,sha256=dd,4
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a distribution of metadata alone."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, *lines: str, record: str = "", version: str = "1.0") -> PathDistribution:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        head = ("Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}")
        (folder / "METADATA").write_text("\n".join((*head, *lines)) + "\n")
        (folder / "RECORD").write_text(record)
        return PathDistribution(folder)

    return install


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: mit or apache-2.0"], "MIT OR Apache-2.0"),
        (["License-Expression: MIT", "License: GPL-3.0-only"], "MIT"),
        (["License: bsd-3-clause"], "BSD-3-Clause"),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["Classifier: License :: OSI Approved :: BSD License"], "LicenseRef-BSD"),
        (
            [
                "License: MIT License",
                "Classifier: License :: OSI Approved :: Apache Software License",
                "Classifier: License :: OSI Approved :: MIT License",
            ],
            "Apache-2.0 AND MIT",
        ),
        (["Classifier: License :: Other/Proprietary License"], "Other/Proprietary License"),
        (["License: my own terms"], "my own terms"),
        (["Classifier: Programming Language :: Python"], ""),
    ],
)
def test_a_licence_is_read_from_metadata(install: Install, lines: list[str], licence: str) -> None:
    assert component_of(install("ash", *lines)).licence == licence


def test_an_expression_is_canonical_or_none() -> None:
    assert spdx("(apache-2.0 with llvm-exception)") == "(Apache-2.0 WITH LLVM-exception)"
    assert [spdx(text) for text in ("", "my own", "MIT AND", "MIT Apache-2.0")] == [""] * 4


def test_the_hash_is_of_what_no_installer_writes() -> None:
    wheel = RECORD.replace("ash/__pycache__/__init__.cpython-311.pyc,,\n", "").replace(
        "../../../bin/ash,sha256=dd,4\n", "ash-1.0.data/scripts/ash,sha256=ee,4\n"
    )
    expected = hashlib.sha256(b"ash/__init__.py sha256=aa\nash/a,b.py sha256=bb\n").hexdigest()
    assert files_hash(RECORD) == files_hash(wheel) == expected
    assert files_hash("\n".join(reversed(RECORD.splitlines()))) == expected
    assert files_hash(RECORD.replace("=aa", "=ab")) != expected
    assert files_hash(RECORD.replace("ash/__init__", "ash/__main__")) != expected
    assert files_hash("") == files_hash("ash-1.0.dist-info/METADATA,sha256=cc,3\n") == ""


def test_an_editable_install_has_no_hash(install: Install, tmp_path: Path) -> None:
    assert component_of(installed := install("ash", record=RECORD)).files_hash
    origin = tmp_path / "ash-1.0.dist-info/direct_url.json"
    origin.write_text('{"url": "file:///a", "dir_info": {"editable": true}}')
    assert component_of(installed).files_hash == ""
    origin.write_text('{"url": "file:///a.whl", "archive_info": {}}')
    assert component_of(installed).files_hash


def test_a_bill_holds_all_that_is_needed_here(install: Install) -> None:
    install(
        "Root_app",
        "Requires-Dist: Left.pad >= 1",
        'Requires-Dist: elsewhere; sys_platform == "never"',
        'Requires-Dist: optional; extra == "more"',
        "Requires-Dist: served[fast]",
    )
    install("left-pad", "Requires-Dist: served", record=RECORD, version="1.2+cpu")
    install("served", 'Requires-Dist: quick; extra == "fast"', "Requires-Dist: left-pad")
    install("quick", "License-Expression: MIT")
    bill = installed_bill("root-app")
    assert bill.root == Component("root-app", "1.0", needs=("left-pad", "served"))
    assert [part.name for part in bill.components] == ["left-pad", "quick", "served"]
    assert bill.components[0].files_hash == files_hash(RECORD)
    assert bill.components[1].licence == "MIT"
    install("elm", "Requires-Dist: absent")
    with pytest.raises(ConfigError, match=r"^absent is not installed: install it .*make setup"):
        installed_bill("elm")


def test_what_runs_here_can_be_listed() -> None:
    bill = installed_bill("flwr")
    assert bill.root.version == "1.41.0"
    named = {part.name: part for part in bill.components}
    assert named["cryptography"].licence == "Apache-2.0 OR BSD-3-Clause"
    assert all(len(part.files_hash) == 64 for part in bill.components)


def test_a_document_is_the_same_bytes_and_its_serial_follows_the_content() -> None:
    part = Component("left-pad", "1.2+cpu", "my own terms", "ab", ("absent",))
    bill = Bill(Component("app", "1.0", "MIT", needs=("left-pad",)), (part,))
    document = bill.document()
    assert bill.to_json() == bill.to_json()
    assert json.loads(bill.to_json()) == document
    (entry,) = document["components"]
    assert entry["purl"] == entry["bom-ref"] == "pkg:pypi/left-pad@1.2%2Bcpu"
    assert entry["licenses"] == [{"license": {"name": "my own terms"}}]
    assert document["metadata"]["component"]["licenses"] == [{"expression": "MIT"}]
    assert document["dependencies"] == [
        {"ref": "pkg:pypi/app@1.0", "dependsOn": [entry["purl"]]},
        {"ref": entry["purl"], "dependsOn": []},
    ]
    assert uuid.UUID(document["serialNumber"]).version == 5
    for other in (replace(part, version="1.3"), replace(part, files_hash="cd")):
        changed = replace(bill, components=(other,)).document()
        assert changed["serialNumber"] != document["serialNumber"]
