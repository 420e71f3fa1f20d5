from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from simulations.cells import Outcome, Stop
from simulations.compare import DENSE, LOGISTIC, PRUNED, RANDOM, SAME_SIZE, Arm
from simulations.ranking import (
    Advice,
    Entry,
    RankBy,
    advise,
    bytes_to,
    curve_of,
    entry_of,
    holm,
    paired,
    rank,
)

TOLERANCE = 0.005
REST = (("allocation", "global"), ("schedule", "cubic"), ("penalty", "none"))


def outcome(kept: int, *stops: Stop) -> Outcome:
    return Outcome(
        learning_rate=0.1,
        weights=1000,
        kept=kept,
        test=0.7,
        test_pr=0.4,
        bytes_first=3000,
        bytes_last=3 * kept,
        stops=stops or (Stop(round=1, bytes_up=1, private=0.7, private_sd=0.01, exact=0.7),),
        overlaps=(),
        layers=(),
    )


def arm(kind: str, sparsity: float = 0.0, score: str = "magnitude") -> Arm:
    if kind in (PRUNED, RANDOM):
        name = RANDOM if kind == RANDOM else score
        return Arm(kind, 1.0, (("score", name), ("granularity", "weight"), *REST), sparsity)
    return Arm(kind, 1.0, hidden=(2,) if kind == SAME_SIZE else ())


def entry(kind: str, values: Sequence[float], kept: int, noise: float = 0.0) -> Entry:
    found = arm(kind, 1 - kept / 1000)
    return Entry(found, tuple(outcome(kept) for _ in values), tuple(values), noise)


def test_paired_test_is_scipys() -> None:
    draw = np.random.default_rng(0)
    for count in (2, 3, 5, 30):
        one, other = draw.normal(0.7, 0.01, (2, count))
        expected = stats.ttest_rel(one, other).pvalue
        assert paired(one, other) == pytest.approx(expected, rel=1e-9)
        # Negative control: an unpaired test says something else.
        assert paired(one, other) != pytest.approx(stats.ttest_ind(one, other).pvalue, rel=1e-3)


def test_paired_test_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, error 1 / sqrt(3), t = 2 sqrt(3) with two degrees of freedom.
    assert paired([2, 4, 6], [1, 2, 3]) == pytest.approx(0.0741799, abs=1e-6)
    assert paired([1, 2], [1, 2]) == 1.0
    assert paired([2, 3], [1, 2]) == 0.0
    assert paired([1], [2]) is None
    with pytest.raises(ValueError, match="longer"):
        paired([1, 2], [1, 2, 3])


def test_pairs_find_what_the_spread_hides() -> None:
    seeds = np.array([0.60, 0.70, 0.80, 0.65, 0.75])
    better = seeds + np.array([0.010, 0.011, 0.009, 0.010, 0.012])
    found = paired(list(better), list(seeds))
    assert found is not None
    assert found < 0.001
    assert stats.ttest_ind(better, seeds).pvalue > 0.5


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    # What is not tested counts for nothing.
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []
    assert holm([0.001, 0.2, 0.01, 0.04]) == pytest.approx([0.004, 0.2, 0.03, 0.08])


def test_entries_rank_by_the_measure_asked_for() -> None:
    stop = Stop(round=4, bytes_up=9, private=0.8, private_sd=0.03, exact=0.7)
    noisy = [outcome(5, stop), outcome(5, stop.model_copy(update={"private": 0.6}))]
    private = entry_of(arm(PRUNED), noisy, "private")
    exact = entry_of(arm(PRUNED), noisy, "exact")
    assert private is not None
    assert exact is not None
    assert private.values == (0.8, 0.6)
    assert private.mean == pytest.approx(0.7)
    # Two means of noise .03 each: .03 / sqrt(2).
    assert private.noise == pytest.approx(0.0212132, abs=1e-6)
    assert (exact.values, exact.noise, exact.spread) == ((0.7, 0.7), 0.0, 0.0)
    lost = outcome(5, stop.model_copy(update={"private": None, "private_sd": None}))
    assert entry_of(arm(PRUNED), [noisy[0], lost], "private") is None
    assert entry_of(arm(PRUNED), [noisy[0], lost], "exact") is not None


def test_table_is_by_mean_and_equals_by_size() -> None:
    table = rank(
        [
            entry(DENSE, (0.70, 0.72), 1000),
            entry(PRUNED, (0.72, 0.74), 500),
            entry(PRUNED, (0.72, 0.74), 100),
            entry(LOGISTIC, (0.60, 0.66), 27),
        ]
    )
    assert [(one.rank, one.entry.kept) for one in table] == [(1, 100), (2, 500), (3, 1000), (4, 27)]
    assert [one.first for one in table] == pytest.approx([0, 0, -0.02, -0.10])
    assert [one.dense for one in table] == pytest.approx([0.02, 0.02, 0, -0.08])
    assert table[0].first_p is None
    assert table[2].dense_p is None
    tested = [one.dense_p for one in table]
    raw = [paired(one.entry.values, (0.70, 0.72)) for one in table]
    raw[2] = None
    assert tested == holm(raw)


def advice(*entries: Entry, by: RankBy = "exact") -> tuple[Entry, str, tuple[str, ...]]:
    found = advise(rank(entries), by, TOLERANCE)
    (chosen,) = (one for one in entries if one.arm == found.arm)
    return chosen, found.reason, found.notes


def test_smallest_within_tolerance_is_recommended() -> None:
    dense = entry(DENSE, (0.78, 0.78), 1000)
    best = entry(PRUNED, (0.770, 0.772), 500)
    small = entry(PRUNED, (0.767, 0.769), 100)
    chosen, reason, _ = advice(dense, best, small)
    assert chosen is small
    assert "(100 weights) is the smallest whose mean exact validation" in reason
    assert "within 0.0050 (the tolerance of the plan) of the best, magnitude weight 50 %" in reason
    assert "0.7680 against 0.7710" in reason
    # Negative control: beyond the tolerance, and as steady, it is not.
    worse = entry(PRUNED, (0.760, 0.762), 100)
    chosen, reason, _ = advice(dense, best, worse)
    assert chosen is best
    assert "has the best mean exact" in reason


def test_margin_grows_with_the_error_over_seeds() -> None:
    best = entry(PRUNED, (0.78, 0.76, 0.77), 500)
    small = entry(PRUNED, (0.75, 0.78, 0.756), 100)
    chosen, reason, _ = advice(best, small)
    error = stats.sem(np.subtract(small.values, best.values))
    assert best.mean - small.mean > TOLERANCE
    assert chosen is small
    assert f"within {error:.4f} (one standard error)" in reason


def test_noise_of_the_private_metric_makes_differences_void() -> None:
    best = entry(PRUNED, (0.77, 0.77), 500, noise=0.02)
    small = entry(PRUNED, (0.75, 0.75), 100, noise=0.02)
    poor = entry(PRUNED, (0.70, 0.70), 90, noise=0.02)
    chosen, reason, notes = advice(best, small, poor, by="private")
    assert chosen is small
    assert "private validation ROC-AUC, as the server would see it" in reason
    assert "within 0.0283 (one standard error)" in reason
    assert "standard deviation of 0.0283 from the noise" in notes[0]
    # Negative control: the same values without noise are told apart.
    chosen, _, notes = advice(
        entry(PRUNED, (0.77, 0.77), 500), entry(PRUNED, (0.75, 0.75), 100), by="private"
    )
    assert chosen.kept == 500
    assert not any("from the noise" in note for note in notes)


def test_nothing_is_recommended_where_noise_hides_every_difference() -> None:
    def told(noise: float, *means: float) -> Advice:
        entries = [entry(PRUNED, [mean], 100 + at, noise) for at, mean in enumerate(means)]
        return advise(rank(entries), "private", TOLERANCE)

    hidden = told(0.1, 0.75, 0.66, 0.70)
    assert hidden.arm is None
    assert hidden.reason.startswith("none: the mean private validation")
    assert "of the 3 pruned models differs by 0.0900 at most" in hidden.reason
    assert "standard deviation of 0.1414" in hidden.reason
    assert "--rank exact" in hidden.reason
    assert [note[:8] for note in hidden.notes] == ["One seed"]
    # Negative controls: one that noise does not explain, noise within the tolerance, no choice.
    assert told(0.1, 0.75, 0.66, 0.60).arm is not None
    assert told(0.003, 0.750, 0.749).arm is not None
    assert told(0.1, 0.75).arm is not None


def test_control_is_never_recommended_but_told() -> None:
    pruned = entry(PRUNED, (0.76, 0.76), 100)
    random = entry(RANDOM, (0.762, 0.761), 100)
    same = entry(SAME_SIZE, (0.74, 0.74), 99)
    dense = entry(DENSE, (0.80, 0.80), 1000)
    logistic = entry(LOGISTIC, (0.79, 0.79), 27)
    chosen, _, notes = advice(dense, logistic, random, same, pruned)
    assert chosen is pruned
    told = {note.split(" (")[0]: note for note in notes[1:]}
    assert "not to be told apart" in told["random weight 90 %"]
    assert "worse than the recommended" in told["same size 2"]
    assert "better, at another size" in told["dense"]
    assert "better, and as small" in told["logistic"]
    assert "(recommended -0.0400, p " in told["dense"]


@pytest.mark.parametrize(("seeds", "note"), [(1, "One seed"), (3, "3 seeds show"), (5, None)])
def test_limits_of_few_seeds_are_told(seeds: int, note: str | None) -> None:
    values = tuple(0.77 + 0.001 * index for index in range(seeds))
    _, _, notes = advice(entry(PRUNED, values, 100))
    assert [text for text in notes if "seed" in text] == ([] if note is None else list(notes))
    assert note is None or notes[0].startswith(note)


def test_bytes_to_an_auc_are_those_of_the_first_evaluation_there() -> None:
    def stop(round_number: int, auc: float) -> Stop:
        sent = 100 * round_number
        return Stop(round=round_number, bytes_up=sent, private=None, private_sd=None, exact=auc)

    found = Entry(
        arm(PRUNED),
        (outcome(5, stop(1, 0.6), stop(2, 0.8)), outcome(5, stop(1, 0.7), stop(2, 0.7))),
        (0.8, 0.7),
        0.0,
    )
    (first, second) = curve_of(found, "exact")
    assert first == pytest.approx((100, 0.65))
    assert second == pytest.approx((200, 0.75))
    assert bytes_to(found, "exact", 0.64) == 100
    assert bytes_to(found, "exact", 0.7) == 200
    assert bytes_to(found, "exact", 0.76) is None
    assert curve_of(found, "private") == []
