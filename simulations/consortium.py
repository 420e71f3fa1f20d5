"""A synthetic credit consortium: loan tables of institutions that differ as real ones do.

Each institution draws its own customers (age, region, employment, income, credit file) and
lends to some of them more than once. It differs from the others in size, in the mixes of
region, purpose and employment, in the income of its customers, in how freely it lends and
in its rate of default. A loan's default is a Bernoulli draw whose log-odds hold

- linear effects, which a logistic regression finds: utilisation, delinquencies, interest
  rate, burden (loan over income), length of the credit file;
- interactions, which it misses: high utilisation hurts on a short file and is harmless on
  a long one; the self-employed do well with business loans and badly with others, employees
  the other way round; a long term hurts where the burden is high and helps where it is low;
  an old delinquency is forgiven only if utilisation is low.

Age is a protected attribute: it moves income, the credit file and, a little, default. The
population is invented, so nothing here needs protection and a seed may drive all of it.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

AGE_BANDS = ("18-29", "30-44", "45-59", "60+")
REGIONS = ("north", "east", "south", "west", "capital")
PURPOSES = ("car", "home", "education", "consolidation", "business")
EMPLOYMENTS = ("employee", "civil_servant", "self_employed", "retired", "none")
TERMS = (12, 24, 36, 48, 60, 84)
NEVER_DELINQUENT = -1
NOT_REPORTED = -9

_AGE_SHARES = (0.22, 0.36, 0.28, 0.14)
_REGION_SHARES = (0.2, 0.2, 0.25, 0.15, 0.2)
_PURPOSE_SHARES = (0.3, 0.2, 0.1, 0.25, 0.15)
_TERM_SHARES = (0.1, 0.2, 0.3, 0.15, 0.2, 0.05)
_EMPLOYMENT_SHARES = {
    "18-29": (0.64, 0.06, 0.14, 0.0, 0.16),
    "30-44": (0.58, 0.12, 0.22, 0.0, 0.08),
    "45-59": (0.52, 0.14, 0.22, 0.05, 0.07),
    "60+": (0.2, 0.08, 0.14, 0.55, 0.03),
}
_LOG_INCOME = {
    "employee": 10.45,
    "civil_servant": 10.55,
    "self_employed": 10.4,
    "retired": 10.05,
    "none": 9.5,
}


def consortium(
    seed: int = 0,
    *,
    institutions: int = 10,
    loans: int = 3_000,
    sizes: Literal["unequal", "equal"] = "unequal",
) -> dict[str, pd.DataFrame]:
    """Return a table of loans for each institution, by its name (``bank-00``, ...).

    The shipped schema ``credit_consortium`` declares its columns. ``loans`` is the mean
    number of rows: ``unequal`` sizes run from about half to twice it and sum to
    ``institutions * loans``. The same arguments give the same tables.
    """
    root = np.random.default_rng([seed, institutions])
    spread = 2.0 ** root.permutation(np.linspace(-1, 1, institutions))
    weights = spread if sizes == "unequal" else np.ones(institutions)
    edges = np.rint(np.cumsum(weights) / weights.sum() * institutions * loans).astype(int)
    tables = {}
    for index, size in enumerate(np.diff(edges, prepend=0)):
        rng = np.random.default_rng([seed, institutions, index])
        table = _loans(rng, int(size))
        # A customer belongs to one institution: numbers of different ones never meet.
        table["customer_id"] += index * 1_000_000
        name = f"bank-{index:02d}"
        table.insert(0, "institution", name)
        tables[name] = table
    return tables


def pooled(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return all loans in one table; the column ``institution`` names the holder."""
    return pd.concat(tables.values(), ignore_index=True)


def _loans(rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Draw an institution's character, then its customers, then ``size`` loans."""
    richness, appetite, risk = rng.normal(0, (0.2, 0.25, 0.45))
    customers = _customers(rng, size, richness)
    loans = customers.loc[rng.integers(0, len(customers), size)].reset_index(drop=True)
    loans["purpose"] = _draw(rng, PURPOSES, rng.dirichlet(8 * np.array(_PURPOSE_SHARES)), size)
    loans["term_months"] = rng.choice(TERMS, size, p=_TERM_SHARES)
    wish = 5.0 + appetite + 0.4 * np.log(loans["income"]) + 0.6 * (loans["purpose"] == "home")
    amount = np.exp(wish + rng.normal(0, 0.55, size))
    loans["loan_amount"] = amount.clip(lower=500).round(-2)
    rate = 5.5 + 4 * loans["utilisation"] + 0.9 * loans["delinquencies"].clip(upper=5)
    loans["interest_rate"] = (rate + rng.normal(0, 2, size)).clip(lower=0.9).round(2)
    default = rng.random(size) < 1 / (1 + np.exp(-_log_odds(loans, risk)))
    return loans.assign(default=default.astype(np.int64))


def _customers(rng: np.random.Generator, loans: int, richness: float) -> pd.DataFrame:
    """Draw the customers behind ``loans`` loans: about three for every four."""
    size = max(1, 3 * loans // 4)
    age = _draw(rng, AGE_BANDS, rng.dirichlet(20 * np.array(_AGE_SHARES)), size)
    rank = np.array([AGE_BANDS.index(band) for band in age])
    tilt = rng.dirichlet(np.full(len(EMPLOYMENTS), 6.0)) * len(EMPLOYMENTS)
    shares = np.array([_EMPLOYMENT_SHARES[band] for band in AGE_BANDS]) * tilt
    employment = np.empty(size, dtype=object)
    for code, band in enumerate(shares / shares.sum(axis=1, keepdims=True)):
        employment[rank == code] = _draw(rng, EMPLOYMENTS, band, int((rank == code).sum()))
    # A Pareto factor on one income in twenty: the bounds a schema declares are exceeded.
    tail = np.where(rng.random(size) < 0.05, 1 + rng.pareto(1.6, size), 1.0)
    centre = np.array([_LOG_INCOME[name] for name in employment]) + richness
    income = tail * np.exp(centre + 0.1 * np.minimum(rank, 2) + rng.normal(0, 0.45, size))
    months = rng.gamma(2.0, 18.0 + 30.0 * rank).clip(max=600)
    delinquencies = rng.negative_binomial(0.5, 0.42, size)
    since = np.where(delinquencies > 0, rng.integers(0, 84, size), NEVER_DELINQUENT)
    since[rng.random(size) < 0.06] = NOT_REPORTED
    return pd.DataFrame(
        {
            "customer_id": np.arange(size),
            "age_band": age,
            "region": _draw(rng, REGIONS, rng.dirichlet(4 * np.array(_REGION_SHARES)), size),
            "employment": employment.astype(str),
            "income": income.round(-1),
            "months_on_file": months.round().astype(np.int64),
            "utilisation": rng.beta(1.3, 1.8, size).round(3),
            "delinquencies": delinquencies,
            "months_since_delinquency": since,
        }
    )


def _log_odds(loans: pd.DataFrame, risk: float) -> Floats:
    """Return the log-odds of default, (loans,): linear effects, then the interactions."""
    utilisation = 2 * loans["utilisation"] - 0.84
    late = np.log1p(loans["delinquencies"])
    burden = np.log(loans["loan_amount"] / loans["income"])
    thin = np.tanh((48 - loans["months_on_file"]) / 24)
    long = (loans["term_months"] - 40) / 24
    business = np.where(loans["purpose"] == "business", 1.0, -0.4)
    trade = loans["employment"].map({"self_employed": -1.0, "employee": 0.5}).fillna(0.0)
    fresh = loans["months_since_delinquency"].between(0, 24)
    linear = 1.2 * utilisation + 0.8 * late + 0.6 * burden + 0.5 * thin
    linear += 0.1 * (loans["interest_rate"] - 9) + 0.2 * (loans["age_band"] == AGE_BANDS[0])
    linear += 0.6 * (loans["employment"] == "none")
    crossed = 1.5 * utilisation * thin + 1.1 * business * trade + 0.5 * burden * long
    crossed += 0.8 * (late > 0) * np.where(fresh, 0.5, np.sign(utilisation - 0.3))
    return np.asarray(linear + crossed - 1.3 + risk, dtype=np.float64)


def _draw(
    rng: np.random.Generator, values: tuple[str, ...], shares: npt.ArrayLike, size: int
) -> npt.NDArray[np.str_]:
    """Draw ``size`` of the ``values`` by their ``shares``."""
    return rng.choice(np.array(values), size, p=np.asarray(shares))
