"""What the server looks at of an evaluation round's sums, how noisy it is, and who fares worst."""

from collections.abc import Collection, Mapping
from math import isnan

from common.groups import shown_pools
from common.plan import Plan
from common.segments import COUNTS, POOL, count_names, counting_noise
from server.evaluation import CONFIDENCE, Counts, Estimate


def looked_at(
    plan: Plan, sums: Mapping[str, Counts], survivors: Collection[str]
) -> tuple[dict[str, Counts], dict[str, float]]:
    """Return the counts of a round by segment, and the standard deviation of the noise on each.

    Pools of whom too few survived are left out, unread: their sums would show institutions.
    """
    pools = plan.evaluation.pools
    shown = shown_pools(pools, survivors, plan.least_pool)
    counts, noise = {}, {}
    for part in (part for part in COUNTS if part in sums):
        counted = dict.fromkeys(count_names(plan, part), len(survivors))
        for pool, members in pools.items():
            # Whoever is outside a pool adds zeros without noise.
            counted[f"{part}/{POOL}{pool}"] = len({*members} & {*survivors}) if pool in shown else 0
        for name, number in counted.items():
            if number:
                counts[name], noise[name] = sums[name], counting_noise(plan, part, number)
    return counts, noise


def apart(estimates: Mapping[str, Estimate], part: str) -> dict[str, Estimate]:
    """Return the estimates of a part's groups and pools by their name alone."""
    start = f"{part}/"
    found = estimates.items()
    return {name.removeprefix(start): seen for name, seen in found if name.startswith(start)}


def worst(groups: Mapping[str, Estimate]) -> str | None:
    """Return whose ROC-AUC is lowest when all that noise may explain is allowed for; None if none.

    So a small group whose counts are mostly noise hides no other.
    """
    best = {
        name: seen.value.roc_auc + CONFIDENCE * seen.sd.roc_auc for name, seen in groups.items()
    }
    known = [name for name, roc_auc in best.items() if not isnan(roc_auc)]
    return min(known, key=best.__getitem__, default=None)
