"""A finished model on rows: what `fedprune-client score` answers, as a frame."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from client.score import ROW, Wishes, score_chunks
from client.scorer import Scorer, load_scorer
from client.tables import chunks_of, rows_at_once, stream
from common.export.onnx_file import SCORE
from common.plan import Plan
from common.schema import FeatureSchema
from fedprune.settling import PathLike

PAIRS = 4
"""Pairs of orders that an explanation averages, unless more are asked for."""


@dataclass(frozen=True, eq=False)
class Model:
    """A finished model: checked against the plan beside it, run by onnxruntime."""

    directory: Path
    _scorer: Scorer = field(repr=False)

    @property
    def plan(self) -> Plan:
        """What it was trained by."""
        return self._scorer.plan

    @property
    def schema(self) -> FeatureSchema:
        """What its tables must look like."""
        return self._scorer.schema

    def predict(self, frame: pd.DataFrame, *, blank: bool = False) -> pd.Series:
        """Return the score of each row, in order and by the frame's index; NaN is none.

        Raises:
            DataError: a cell does not fit the schema; with ``blank`` its row has no score.
        """
        found: pd.Series = score(self, frame, blank=blank).table[SCORE]
        return found

    def explain(
        self, frame: pd.DataFrame, *, pairs: int = PAIRS, blank: bool = False
    ) -> pd.DataFrame:
        """Return score, logit and what each column adds to ``base``, in log-odds, row by row."""
        return score(self, frame, pairs=pairs, blank=blank).table


@dataclass(frozen=True, eq=False)
class Scores:
    """A row for each row, in order; ``faults`` count by column and problem why some have none."""

    table: pd.DataFrame
    unscored: int
    faults: pd.Series

    def figure(self) -> Figure:
        """Return how scores are distributed."""
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.hist(self.table[SCORE].dropna(), bins=40, range=(0, 1))
        axes.set(xlabel="score", ylabel="rows")
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def load_model(directory: PathLike, *, threads: int = 0) -> Model:
    """Read the model that a run left in a directory; ``threads`` of its network, 0 is one a core.

    Raises:
        ConfigError: plan or model are missing, damaged, or not of each other.
    """
    folder = Path(directory)
    return Model(folder, load_scorer(folder, threads))


def score(
    model: Model | PathLike,
    data: pd.DataFrame | PathLike,
    *,
    keep: Sequence[str] = (),
    pairs: int = 0,
    blank: bool = False,
) -> Scores:
    """Score a table that fits into memory; for research, whatever the model's standing.

    Rows keep the frame's index; those of a file are numbered from 1, unless columns are kept.

    Args:
        model: a model, or the directory of one.
        data: rows as the schema has them, or a CSV or Parquet file; no label is needed.
        keep: columns to copy beside the score.
        pairs: of orders by which each score is explained; 0 explains none.
        blank: leave a row that does not fit without a score, instead of refusing the table.

    Raises:
        DataError: a cell does not fit the schema, named by column and row, never shown.
        ConfigError: the model cannot be used, or a kept column has the name of a written one.
    """
    used = model if isinstance(model, Model) else load_model(model)
    schema, wishes = used.schema, Wishes(tuple(dict.fromkeys(keep)), blank, pairs)
    inputs = [column.name for column in schema.inputs]
    held = rows_at_once(schema.width + len(inputs) + len(wishes.kept))
    chunks: Iterable[pa.Table]
    if isinstance(data, pd.DataFrame):
        source, chunks = "the frame", chunks_of(data, inputs, wishes.kept, held)
    else:
        source, chunks = str(data), stream(Path(data), schema.file, inputs, wishes.kept, held)
    tables, unscored, faults = [], 0, Counter[tuple[str, str]]()
    for scored in score_chunks(chunks, used._scorer, wishes, source):
        tables.append(scored.table)
        unscored += scored.unscored
        faults.update(scored.faults)
    table: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    if not wishes.kept:
        table = table.set_index(ROW)
    if isinstance(data, pd.DataFrame):
        table.index = data.index
    told = pd.Series(
        [*faults.values()],
        pd.MultiIndex.from_tuples([*faults], names=["column", "problem"]) if faults else None,
        dtype=int,
        name="rows",
    )
    return Scores(table, unscored, told)
