"""The model file as three files beside the run that it tells of."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.durable import write_atomically
from server.model_file.card import json_of, markdown_of
from server.model_file.records import NOTHING_BESIDE, Beside, Records, read_records
from server.model_file.shapes import ModelFile
from server.model_file.story import file_of
from server.model_file.validation import page_of
from server.report.page import rendered
from server.tables import CARD, CARD_FACTS, VALIDATION_PAGE

HERE = Path(__file__).parent

FEW = 40
"""Rows up to which a table is shown at once; paper shows no other."""


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a model file, and what stands in them."""

    paths: tuple[Path, ...]
    file: ModelFile


def html_of(file: ModelFile, records: Records) -> str:
    """Return ``validation.html``: everything inside, nothing fetched, nothing run."""
    return rendered("validation.html", HERE, page=page_of(file, records), few=FEW)


def write_model_file(directory: Path, beside: Beside = NOTHING_BESIDE) -> Written:
    """Write Markdown, JSON and page beside the run; what stood there before is replaced.

    Raises:
        ConfigError: the directory holds no run, or what is beside it is not of this run.
        PolicyError: a release of the run lies there whose signatures do not hold.
        DiskError: something cannot be written.
    """
    records = read_records(directory, beside)
    file = file_of(records)
    written = dict(_files(file, records))
    for name, content in written.items():
        write_atomically(directory / name, content)
    return Written(tuple(directory / name for name in written), file)


def _files(file: ModelFile, records: Records) -> Iterator[tuple[str, bytes]]:
    yield CARD, markdown_of(file).encode()
    yield CARD_FACTS, json_of(file)
    yield VALIDATION_PAGE, html_of(file, records).encode()
