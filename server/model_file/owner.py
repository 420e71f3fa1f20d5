"""What only people know of a model, and the bounds they hold it to: the file of ``--facts``."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.errors import ConfigError
from common.parsing import read_toml

Line = Annotated[str, Field(min_length=1, max_length=2000)]
Share = Annotated[float, Field(ge=0, le=1)]


class Thresholds(BaseModel):
    """What the validation's tests hold the model to; the defaults are the program's own.

    ``least_auc`` is the ROC-AUC below which a model is of no use; ``loss`` how much of it pruning
    may cost (the plan's ``pruning.tolerance``, unless it is said); ``calibration`` and
    ``group_calibration`` bound the calibration error, ``group_gap`` how far a group's ROC-AUC may
    be below that of all rows, ``seed_sd`` the standard deviation of ROC-AUC over seeds,
    ``lost_rounds`` the share of rounds without a sum.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_auc: Share = 0.6
    loss: Share | None = None
    calibration: Share = 0.03
    group_gap: Share = 0.05
    group_calibration: Share = 0.05
    seed_sd: Share = 0.01
    lost_rounds: Share = 0.1


class OwnerFacts(BaseModel):
    """The model's purpose, owner and limits, where its data are from, who validates and watches it.

    Whatever is left out is named as missing. Nothing here may be of a record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    intended_purpose: Line | None = None
    decisions: Line | None = None
    users: Line | None = None
    population: Line | None = None
    out_of_scope: tuple[Line, ...] | None = None
    owner: Line | None = None
    developer: Line | None = None
    validator: Line | None = None
    materiality: Line | None = None
    risk_class: Line | None = None
    oversight: Line | None = None
    data_source: Line | None = None
    data_period: Line | None = None
    outcome_window: Line | None = None
    owner_limits: tuple[Line, ...] | None = None
    review: Line | None = None
    contact: Line | None = None
    thresholds: Thresholds = Thresholds()


NOTHING_SAID = OwnerFacts()


def read_owner(path: Path | None) -> OwnerFacts:
    """Return what the owner says; raise `ConfigError` naming the file and each fault."""
    if path is None:
        return NOTHING_SAID
    return read_toml(OwnerFacts.model_validate, path, ConfigError)
