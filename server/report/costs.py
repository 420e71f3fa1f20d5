"""What was pruned where, what it cost in privacy, bytes and seconds, and who took part."""

from collections import Counter

import numpy as np

from common.facts import facts_of
from common.segments import TEST, VALIDATION, evaluation_rounds
from server.report.files import RunFiles, Weights
from server.report.quality import shown
from server.report.shapes import Array, Bars, Chart, Figure, Section, Series, Table
from server.tables import LATENCY, STAGES

FEATURES = 24
"""Features in the figure; the table has all."""


def epsilon_of(run: RunFiles) -> tuple[str, str] | None:
    """Return epsilon so far, and if all others collude; None where nobody recorded them."""
    for facts in (run.facts, run.summary):
        found = facts.get("epsilon"), facts.get("epsilon_if_others_collude")
        if None not in found:
            first, second = (one if isinstance(one, str) else f"{one:.3f}" for one in found)
            return first, second
    return None


def saved(run: RunFiles) -> tuple[float, float] | None:
    """Return bytes that an institution sent in training rounds, and what unpruned rounds take."""
    sent = run.column("bytes_up")
    trained = (run.number < run.plan.training.rounds) & (run.column("survivors") > 0)
    if not trained.any():
        return None
    sent = sent[trained]
    return float(sent.sum()), float(sent.max() * sent.size)


def survivors_of_pruning(run: RunFiles) -> Section:
    """Return what is left of each layer and of each input feature."""
    title = "What survives"
    if run.model is None:
        return Section(title, missing=("The model's file: no round is finished.",))
    layers, features = _layers(run.model), _features(run, run.model)
    return Section(
        title,
        figures=tuple(one for one in (layers, features) if one is not None),
        tables=_forms(run),
        missing=() if run.shrinkage else ("What shrank, and latency: written as a run ends.",),
    )


def budget(run: RunFiles) -> Section:
    """Return the planned budget, and what of it is spent."""
    plan, spent = run.plan, epsilon_of(run)
    privacy, facts = plan.privacy, facts_of(plan)
    multiplier = run.facts.get("noise_multiplier", run.summary.get("noise_multiplier"))
    planned = "none" if privacy.epsilon == "none" else f"{privacy.epsilon:g}"
    counted = "none" if plan.evaluation.noise == "none" else f"{plan.evaluation.epsilon:g}"
    over = f"{plan.training.rounds} rounds of {plan.training.steps} steps"
    rows = [("training rows", planned, *(spent or ("not recorded", "not recorded")), over)]
    for part, steps in ((VALIDATION, len(evaluation_rounds(plan))), (TEST, 1)):
        done = sum(one.part == part and not one.group for one in run.counted)
        read = f"{done} of {steps} releases" if run.counted else "not recorded"
        rows.append((f"{part} rows", counted, read, "", f"{steps} round{'s'[: steps > 1]}"))
    heads = ("spent by", "planned epsilon", "so far", "if all others collude", "over")
    told = [
        ("delta", f"{privacy.delta:g}"),
        ("unit", facts["unit"]),
        ("held by many", facts["held_by_many"]),
        ("accountant", privacy.accountant),
        ("sample rate", f"{plan.training.sample_rate:g}"),
        ("clipping norm", f"{privacy.max_grad_norm:g}"),
        ("noise multiplier", "not recorded" if multiplier is None else f"{multiplier:.4f}"),
        ("evaluation rounds", ", ".join(map(str, evaluation_rounds(plan)))),
    ]
    missing = () if spent else ("Epsilon spent so far: it is written as a run ends.",)
    table = Table("Planned budget and what is spent", heads, tuple(rows))
    return Section("Privacy budget", facts=tuple(told), tables=(table,), missing=missing)


def course(run: RunFiles) -> Section:
    """Return bytes, survivors and stage timings by round."""
    figures: list[Figure] = [_bytes(run), _survivors(run)]
    missing = []
    if (timings := _timings(run)) is not None:
        figures.append(timings)
    else:
        missing.append("Seconds by trip: an earlier release wrote none.")
    if not run.survivors:
        missing.append("Who took part, by name: a simulation keeps no journal.")
    return Section(
        "Bytes, survivors and time",
        tables=_attendance(run),
        figures=tuple(figures),
        missing=tuple(missing),
    )


def _layers(model: Weights) -> Bars:
    parts = [
        (entry.name, model.mask[entry.span])
        for entry in model.layout.entries
        if entry.name.endswith("weight")
    ]
    gone = np.array([100 * (1 - mask.mean()) for _, mask in parts])
    rows = tuple(
        (name, f"{mask.size:,}", f"{mask.sum():,}", f"{share:.1f} %")
        for (name, mask), share in zip(parts, gone, strict=True)
    )
    title = "Sparsity by layer"
    return Bars(
        title,
        "Weights pruned in each layer of the last model; biases are in the table of forms.",
        f"{title}: " + "; ".join(f"{row[0]} {row[3]}" for row in rows) + ".",
        "weights pruned, %",
        tuple(name.removesuffix(".weight") for name, _ in parts),
        gone,
        Table(title, ("layer", "weights", "kept", "pruned"), rows),
        limits=(0, 102),
    )


def _features(run: RunFiles, model: Weights) -> Bars:
    """Return how many weights read each input; an input that none reads has left the model."""
    masks, weights = model.layout.split(model.mask), model.layout.split(model.weights)
    names = run.plan.schema_.feature_names
    first = masks.get("hidden.0.weight")
    read = np.zeros(len(names)) if first is None else first.sum(axis=0).astype(float)
    skip = masks.get("linear.weight", np.zeros((1, len(names)), np.bool_))[0].astype(bool)
    own = np.where(skip, weights.get("linear.weight", np.zeros((1, len(names))))[0], np.nan)
    reached = read + skip
    order = np.argsort(-reached, kind="stable")
    rows = tuple(
        (
            names[at],
            f"{read[at]:.0f}",
            shown(float(own[at]), 4) if skip[at] else "pruned",
            "yes" if reached[at] else "no",
        )
        for at in order
    )
    left = int((reached == 0).sum())
    title = "Weights that read each input"
    few = order[:FEATURES]
    return Bars(
        title,
        f"The {len(few)} inputs read most, of {len(names)}; {left} are read by no weight. The skip"
        " from an input straight to the score counts as one.",
        f"{title}: " + "; ".join(f"{names[at]} {reached[at]:.0f}" for at in few) + ".",
        "surviving weights",
        tuple(names[at] for at in few),
        reached[few],
        Table(title, ("input", "hidden neurons", "weight of the skip", "survives"), rows),
    )


def _forms(run: RunFiles) -> tuple[Table, ...]:
    if not run.shrinkage:
        return ()
    names = {"dense": "as planned", "compact": "compacted", "sparse": "sparse file"}
    batches = list(run.shrinkage.get("dense", {}).get(LATENCY, {}))
    heads = (
        "form",
        "weights",
        "neurons",
        "operations a record",
        "bytes",
        "bytes, zlib",
        *(f"ms for {int(rows):,}" for rows in batches),
    )
    fields = ("weights", "neurons", "flops_per_record", "bytes_stored", "bytes_compressed")
    rows = []
    for form, told in names.items():
        found = run.shrinkage.get(form, {})
        took = found.get(LATENCY, {})
        rows.append(
            (
                told,
                *(shown(found.get(field), 0) for field in fields),
                *(f"{took[batch]:.3g}" if batch in took else "" for batch in batches),
            )
        )
    return (Table("The model in each form; ms in onnxruntime on one thread", heads, tuple(rows)),)


def _bytes(run: RunFiles) -> Chart:
    up, down = run.column("bytes_up") / 1000, run.column("bytes_down") / 1000
    rows = tuple(
        (f"{number:.0f}", shown(sent, 1), shown(got, 1))
        for number, sent, got in zip(run.number, up, down, strict=True)
    )
    title = "Bytes by round"
    told = f"{rows[0][1]} kB up in the first, {rows[-1][1]} in the last" if rows else "none"
    return Chart(
        title,
        "Of an average institution that took part, all trips of the round, as serialised.",
        f"{title}, an institution: {told}.",
        "round",
        "kB an institution",
        (
            Series("up", run.number, up, kind="step", colour=0),
            Series("down", run.number, down, kind="step", colour=1),
        ),
        Table(title, ("round", "kB up", "kB down"), rows),
        y_limits=(0, None),
        whole=True,
    )


def _survivors(run: RunFiles) -> Chart:
    count, members, least = run.column("survivors"), len(run.plan.names), run.plan.threshold
    rows = tuple(
        (f"{number:.0f}", f"{here:.0f}", "lost" if here == 0 else "")
        for number, here in zip(run.number, count, strict=True)
    )
    lost = int((count == 0).sum())
    fell = f"{lost} round{'s'[: lost != 1]} lost"
    title = "Survivors by round"
    fewest = f"{np.nanmin(count):.0f}" if count.size else "0"
    return Chart(
        title,
        f"Institutions whose vectors are in the sum; {fell}.",
        f"{title}: at least {fewest} of {members}, threshold {least}, {fell}.",
        "round",
        "institutions",
        (
            Series("survivors", run.number, count, kind="step", colour=2),
            _level("threshold", least, "--"),
            _level("members", members, ":"),
        ),
        Table(title, ("round", "survivors", "outcome"), rows),
        y_limits=(0, 1.06 * members),
        whole=True,
    )


def _level(label: str, value: float, dash: str) -> Series:
    return Series(label, np.zeros(1), np.array([float(value)]), None, None, "level", None, dash)


def _timings(run: RunFiles) -> Chart | None:
    stages = {stage: run.column(f"seconds_{stage}") for stage in STAGES}
    known = {stage: took for stage, took in stages.items() if np.isfinite(took).any()}
    whole = run.column("seconds")
    if not known:
        return None
    rest = np.maximum(whole - np.sum([np.nan_to_num(took) for took in known.values()], axis=0), 0)
    parts: dict[str, Array] = known | {"server itself": rest}
    rows = tuple(
        (f"{number:.0f}", shown(whole[at], 3), *(shown(took[at], 3) for took in parts.values()))
        for at, number in enumerate(run.number)
    )
    title = "Seconds by round"
    told = "; ".join(f"{name} {np.nansum(took):.1f} s in all" for name, took in parts.items())
    return Chart(
        title,
        "How long the server waited in each trip, and what it did itself.",
        f"{title}: {told}.",
        "round",
        "seconds",
        tuple(
            Series(name, run.number, took, kind="area", colour=colour)
            for colour, (name, took) in enumerate(parts.items())
        ),
        Table(title, ("round", "all", *parts), rows),
        y_limits=(0, None),
        whole=True,
    )


def _attendance(run: RunFiles) -> tuple[Table, ...]:
    """Return in how many finished rounds each institution took part; the server sees that."""
    if not run.survivors:
        return ()
    finished = [names for names in run.survivors.values() if names]
    seen = Counter(name for names in finished for name in names)
    rows = tuple(
        (name, f"{seen[name]:,}", f"{len(finished) - seen[name]:,}") for name in run.plan.names
    )
    return (Table("Rounds by institution", ("institution", "took part", "absent"), rows),)
