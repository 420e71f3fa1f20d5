"""The feature schema: what an institution's table holds, and the public bounds that scale it.

Everything here is declared in advance and agreed on by all: a bound, category or code taken
from private rows would be an unaccounted release. `common.encoding` turns rows into features
by the schema alone. Order matters: features stand in the order in which columns are declared.
"""

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from common.errors import SchemaError
from common.parsing import read_toml

Name = Annotated[StrictStr, Field(min_length=1, pattern=r"^\S(.*\S)?$")]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Category = StrictInt | StrictStr
Code = StrictInt | StrictFloat | StrictStr

SHIPPED = Path(__file__).with_name("schemas")
EMBEDDED = "credit_consortium"
"""The shipped schema of the rows that a simulation makes up where no table is given."""

_INTEGRAL = re.compile(r"[+-]?\d+(\.0*)?")


def token(value: object) -> str:
    """Return the text by which a cell and a declared value are compared: 1, 1.0 and "1" agree."""
    text = str(int(value)) if isinstance(value, bool | np.bool_) else str(value).strip()
    return str(int(text.partition(".")[0])) if _INTEGRAL.fullmatch(text) else text


def _require_distinct(kind: str, values: Iterable[object]) -> None:
    repeated = [value for value, count in Counter(map(token, values)).items() if count > 1]
    if repeated:
        raise ValueError(f"{kind} {repeated[0]!r} is declared twice: declare it once")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileFormat(_Section):
    """How a CSV file is written; Parquet needs none of it."""

    delimiter: Annotated[StrictStr, Field(min_length=1, max_length=1)] = ","
    encoding: StrictStr = "utf-8"

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError(f"unknown encoding {encoding!r}: name one, such as utf-8") from error


class _Column(_Section):
    """A declared column.

    ``missing_codes`` are values that mean "missing" beside the empty cell; ``missing`` says
    what follows: the row is refused or dropped, or the feature is 0 beside an indicator.
    A protected column is read for groups and partitions but is no feature unless ``feature``
    says so.
    """

    name: Name
    missing: Literal["refuse", "drop", "indicator"] = "refuse"
    missing_codes: tuple[Code, ...] = ()
    protected: bool = False
    feature: bool | None = None

    @property
    def encoded(self) -> bool:
        """Whether the model sees this column."""
        return not self.protected if self.feature is None else self.feature

    def _with_indicator(self, *names: str) -> tuple[str, ...]:
        return (*names, f"{self.name}=missing") if self.missing == "indicator" else names


class NumericColumn(_Column):
    """A number in [lo, hi], mapped to [-1, 1], after sign(x) log1p(|x|) where ``log``.

    Each of ``codes`` (a value with a meaning of its own) also gets a one-hot feature and is
    never out of range. ``outside`` says what becomes of other values out of range.
    """

    kind: Literal["numeric"]
    lo: Number
    hi: Number
    log: bool = False
    codes: tuple[Number, ...] = ()
    outside: Literal["clip", "drop", "refuse"] = "clip"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_range(self.name, self.lo, self.hi)
        _require_distinct(f"{self.name}: code", (*self.codes, *self.missing_codes))
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of this column's features: value, codes, indicator."""
        return self._with_indicator(self.name, *(f"{self.name}={token(c)}" for c in self.codes))


class CategoricalColumn(_Column):
    """One of the declared ``values``, one-hot; any other value is refused."""

    kind: Literal["categorical"]
    values: Annotated[tuple[Category, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_distinct(f"{self.name}: value", (*self.values, *self.missing_codes))
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of this column's features: values, indicator."""
        return self._with_indicator(*(f"{self.name}={token(value)}" for value in self.values))


Column = NumericColumn | CategoricalColumn


class Ratio(_Section):
    """A quotient of two numeric columns, clipped to [lo, hi] and mapped to [-1, 1].

    The feature is 0 where the denominator is zero or either is missing.
    """

    name: Name
    numerator: Name
    denominator: Name
    lo: Number
    hi: Number

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_range(self.name, self.lo, self.hi)
        return self


class Label(_Section):
    """The outcome: ``positive`` is 1, ``negative`` is 0, anything else is refused."""

    column: Name
    positive: Category
    negative: Category

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_distinct("label value", (self.positive, self.negative))
        return self


class FeatureSchema(_Section):
    """What a table holds, and how it becomes features.

    Every column of the table is declared: as a column, the label, the ``customer`` id (rows
    that share it are never split) or in ``ignored``.
    """

    name: Name
    file: FileFormat = FileFormat()
    duplicates: Literal["keep", "drop"] = "keep"
    label: Label
    customer: Name | None = None
    ignored: tuple[Name, ...] = ()
    columns: tuple[Annotated[Column, Field(discriminator="kind")], ...]
    ratios: tuple[Ratio, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        customer = () if self.customer is None else (self.customer,)
        declared = (*(column.name for column in self.columns), *self.ignored, *customer)
        _require_distinct("column", (*declared, self.label.column))
        _require_distinct("feature", self.feature_names)
        if not self.feature_names:
            raise ValueError("no column is a feature: declare one that is not protected")
        for ratio in self.ratios:
            for name in (ratio.numerator, ratio.denominator):
                self._require_operand(ratio, name)
        return self

    def _require_operand(self, ratio: Ratio, name: str) -> None:
        column = next((column for column in self.columns if column.name == name), None)
        if not isinstance(column, NumericColumn):
            raise ValueError(f"ratio {ratio.name!r}: {name!r} is no numeric column: declare it so")
        if column.protected and not column.encoded:
            raise ValueError(
                f"ratio {ratio.name!r}: {name!r} is protected and would reach the model through"
                " it: drop the ratio or set feature = true"
            )

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns of which features are made, as declared; the model needs no other."""
        operands = {name for ratio in self.ratios for name in (ratio.numerator, ratio.denominator)}
        return tuple(column for column in self.columns if column.encoded or column.name in operands)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the encoding's columns."""
        columns = (
            name for column in self.columns if column.encoded for name in column.feature_names
        )
        return (*columns, *(ratio.name for ratio in self.ratios))

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.feature_names)

    @property
    def protected(self) -> tuple[str, ...]:
        """Names of the protected columns."""
        return tuple(column.name for column in self.columns if column.protected)

    @property
    def outcome(self) -> CategoricalColumn:
        """The label as a column whose values are (negative, positive)."""
        values = (self.label.negative, self.label.positive)
        return CategoricalColumn(name=self.label.column, kind="categorical", values=values)

    def canonical_json(self) -> str:
        """Return the one JSON text of this schema, the form to hash."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _require_range(name: str, lo: float, hi: float) -> None:
    if not (lo < hi and math.isfinite(hi - lo)):
        raise ValueError(f"{name}: bounds [{lo:g}, {hi:g}] are empty: set lo below hi")


def shipped_schemas() -> tuple[str, ...]:
    """Return the names of the schemas that come with the package, sorted."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def load_schema(name_or_path: str | Path) -> FeatureSchema:
    """Return a shipped schema by name, or the schema in a TOML file (a path ends in .toml).

    Raises:
        SchemaError: naming the source and every problem, in one line.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in shipped_schemas():
            raise SchemaError(
                f"unknown schema {str(name_or_path)!r}; known: {', '.join(shipped_schemas())},"
                " or the path of a .toml file"
            )
        path = SHIPPED / f"{name_or_path}.toml"
    return read_toml(FeatureSchema.model_validate, path, SchemaError)
