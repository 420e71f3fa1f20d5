"""How fast and how large is secure aggregation, beside Flower's SecAgg+ on the same vectors?

`python benchmarks/secagg.py [--quick] [--thousand] [--json]`. Every figure comes from this run on
this machine. Flower's work is a loop of equal steps; where it would take minutes, some steps are
timed and multiplied, and the table says so with a tilde. TenSEAL joins in when it is installed.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache, partial
from statistics import median
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from client.data import Examples, Splits
from common.crypto import prg, secagg
from common.crypto.masking import pair_keys, self_key
from common.crypto.opening import require_offer, unmask
from common.crypto.ring import RingVector, pack
from common.plan import plan_from_dict
from simulations.rehearsal import Rehearsal
from simulations.run import Run, simulate

T = TypeVar("T")

LENGTHS = (20_000, 200_000, 1_000_000)
COHORTS = (3, 10, 32, 100)
DROPOUTS = (0.0, 0.1, 0.3)
FLOWER_RANGE = 2**32
FLOWER_BYTES = 8
MOST_STEPS = 40
KEPT, WEIGHTS = 100_000, 1_000_000
MOST_OF_LIMIT = 1.05
GCM = modes.GCM(bytes(12))
"""The counter mode inside GCM, which OpenSSL runs faster than bare CTR on some machines."""


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Return the median time of some calls."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times)


def interleaved(*works: Callable[[], object], repeats: int = 25) -> list[float]:
    """Return the median time of each, taken in turns, so that a busy moment strikes all alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for taken, work in zip(times, works, strict=True):
            taken.append(seconds(work, 1))
    return list(map(median, times))


@lru_cache(maxsize=1)
def flower_keys() -> tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]:
    """Return a private key, and the public key of somebody else."""
    return ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(
        ec.SECP384R1()
    ).public_key()


def flower_masks(values: NDArray[np.int64], seeds: int, pairs: int) -> NDArray[np.int64]:
    """Mask as Flower's client does: so many seeds of its own, so many agreed with a peer."""
    private, public = flower_keys()
    masked = [values]
    for _ in range(seeds):
        masked = parameters_addition(
            masked, pseudo_rand_gen(os.urandom(32), FLOWER_RANGE, [values.shape])
        )
    for _ in range(pairs):
        key = generate_shared_key(private, public)
        masked = parameters_subtraction(masked, pseudo_rand_gen(key, FLOWER_RANGE, [values.shape]))
    return parameters_mod(masked, FLOWER_RANGE)[0]


def flower_unmask(length: int, size: int, dropped: int, threshold: int) -> tuple[float, bool]:
    """Return the seconds of Flower's unmasking, and whether some steps stood for all."""
    values = np.zeros(length, np.int64)
    shares = create_shares(os.urandom(32), threshold, size)[:threshold]
    alive = size - dropped
    steps = alive + dropped * alive
    masks = min(steps, MOST_STEPS)
    secrets = min(size, MOST_STEPS // 4)
    pairs = masks if dropped else 0
    rebuilding = seconds(lambda: [combine_shares(shares) for _ in range(secrets)], 1)
    masking = seconds(lambda: flower_masks(values, masks - pairs, pairs), 1)
    return rebuilding * size / secrets + masking * steps / masks, (masks, secrets) != (steps, size)


def flower_unmask_in_full(length: int, size: int, dropped: int, threshold: int) -> float:
    """Return the seconds of Flower's unmasking, every step of it done."""
    values, alive = np.zeros(length, np.int64), size - dropped
    shares = [create_shares(os.urandom(32), threshold, size)[:threshold] for _ in range(size)]

    def work() -> None:
        for share in shares:
            combine_shares(share)
        flower_masks(values, alive, dropped * alive)

    return seconds(work, 1)


def our_mask(length: int, neighbours: int) -> Callable[[], None]:
    """Return the masking of a vector with so many peers, agreements included."""
    rehearsal = replace(Rehearsal.of(neighbours + 1), length=length)
    name = rehearsal.names[0]
    prepared, _ = rehearsal.advertised[name]
    adverts = {peer: offer.advert for peer, offer in rehearsal.offers.items()}
    vector = np.zeros(length, np.uint32)

    def work() -> None:
        pairs = pair_keys(name, prepared.mask_private, rehearsal.names, adverts, bytes(32))
        added = [self_key(prepared.seed, bytes(32)), *pairs.added]
        prg.apply(vector, rehearsal.bits, added, pairs.subtracted)

    return work


def whole_mask(length: int, neighbours: int) -> Callable[[], object]:
    """Return a client's masking of an accepted round: checks, copy, slots and all keystreams."""
    rehearsal = replace(Rehearsal.of(neighbours + 1), length=length)
    accepted = rehearsal.accept(rehearsal.names[0])
    vector = np.zeros(length, np.uint32)
    return lambda: secagg.mask(accepted, vector)


def our_keystreams(length: int, streams: int) -> Callable[[], None]:
    """Return the adding of so many masks whose keys are at hand."""
    vector, keys = np.zeros(length, np.uint32), [bytes([index]) * 32 for index in range(streams)]
    return lambda: prg.apply(vector, 24, keys, ())


def machine_limit(mode: modes.CTR | modes.GCM, length: int, streams: int) -> Callable[[], None]:
    """Return so many AES-256 keystreams, each added once, serially and within the cache."""
    words = 32 * 1024
    block, target = np.zeros(words, np.uint32), bytearray(4 * words)
    zeros, stream = memoryview(bytes(4 * words)), np.frombuffer(target, "<u4")
    encryptor = Cipher(algorithms.AES256(bytes(32)), mode).encryptor()
    whole, rest = divmod(streams * length, words)

    def work() -> None:
        for _ in range(whole):
            encryptor.update_into(zeros, target)
            np.add(block, stream, out=block)
        encryptor.update_into(zeros[: 4 * rest], target)
        np.add(block[:rest], stream[:rest], out=block[:rest])

    return work


def masking_figures(length: int, neighbours: int) -> dict[str, float]:
    """Return what a client's masking reaches of this machine's AES-256, and against Flower's.

    Raises:
        SystemExit: masking is faster than the limit, so the limit is not one.
    """
    streams = neighbours + 1
    flower = partial(flower_masks, np.zeros(length, np.int64), 1, neighbours)
    agreeing, theirs = interleaved(our_mask(length, neighbours), flower, repeats=9)
    whole, added, *limits = interleaved(
        whole_mask(length, neighbours),
        our_keystreams(length, streams),
        *(machine_limit(mode, length, streams) for mode in (modes.CTR(bytes(16)), GCM)),
        repeats=51,
    )
    limit = min(limits)
    figures = {
        "mask_1m_9_vs_flower": theirs / agreeing,
        "mask_1m_9_of_limit": limit / whole,
        "keystreams_1m_9_of_limit": limit / added,
        "mask_1m_9_ms": whole * 1e3,
        "aes_add_gb_per_second": 4 * length * streams / limit / 1e9,
    }
    for name, fraction in figures.items():
        if name.endswith("_of_limit") and fraction > MOST_OF_LIMIT:
            raise SystemExit(f"{name} is {fraction:.2f}, above {MOST_OF_LIMIT}: that is no limit")
    return figures


def our_unmask(size: int, length: int, dropouts: Iterable[int]) -> dict[int, float]:
    """Return the seconds of the server's opening by number of dropouts, Shamir included."""
    rehearsal = replace(Rehearsal.of(size), length=length)
    draw = np.random.default_rng(0)
    vectors: dict[str, RingVector] = {
        name: draw.integers(0, 2**rehearsal.bits, length, np.uint32) for name in rehearsal.names
    }
    performance, found = rehearsal.mask(vectors), {}
    for dropped in dropouts:
        survivors = rehearsal.names[dropped:]
        reveals = performance.reveals(survivors)
        masked = {name: performance.masked[name] for name in survivors}
        arguments = (performance.descriptor, rehearsal.roster, performance.offers, masked, reveals)
        found[dropped] = seconds(lambda given=arguments: unmask(*given))
    return found


def serial_round(size: int, length: int, dropped: int, tell: Callable[[str], None]) -> list[float]:
    """Return the seconds of a whole round, every party's work done in turn in this process.

    They are those of advertising, of masking (forwarding and all checks included), of signing
    the survivors, of revealing and of opening; ``tell`` hears of each.

    Raises:
        SystemExit: the round did not end in the survivors' sum.
    """
    rehearsal = replace(Rehearsal.of(size), length=length)
    draw, times = np.random.default_rng(0), []
    vectors: dict[str, RingVector] = {
        name: draw.integers(0, 2**rehearsal.bits, length, np.uint32) for name in rehearsal.parties
    }
    descriptor, survivors = rehearsal.descriptor(), rehearsal.names[dropped:]

    def timed(step: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        done = work()
        times.append(time.perf_counter() - started)
        tell(f"{size} institutions: {step} took {times[-1]:.1f} s")
        return done

    def advertised() -> None:
        for name, offer in rehearsal.offers.items():
            require_offer(offer, rehearsal.session, rehearsal.roster, name)

    timed("advertising", advertised)
    performance = timed("masking", lambda: rehearsal.mask(vectors))
    signed = timed("signing", lambda: performance.sign(survivors))
    needed = {name: signed[name] for name in survivors[: descriptor.threshold]}
    reveals = timed(
        "revealing",
        lambda: {name: performance.reveal(name, survivors, needed)[1] for name in survivors},
    )
    opened = timed("opening", lambda: performance.open(survivors, reveals))
    total = np.stack([vectors[name] for name in survivors]).sum(axis=0, dtype=np.uint32)
    if not np.array_equal(opened.total, total & np.uint32(2**rehearsal.bits - 1)):
        raise SystemExit(f"the round of {size} institutions did not end in the survivors' sum")
    return times


def tenseal_seconds(length: int) -> float | None:
    """Return the seconds to encrypt one vector under CKKS, or None where TenSEAL is missing."""
    try:
        import tenseal  # noqa: PLC0415
    except ImportError:
        return None
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, [60, 40, 40])
    context.global_scale = 2**40
    values = np.zeros(length)
    return seconds(
        lambda: [
            tenseal.ckks_vector(context, values[at : at + 4096]).serialize()
            for at in range(0, length, 4096)
        ],
        1,
    )


def whole_rounds(size: int) -> Run:
    """Run the real apps for two rounds of 20k weights, so that the second needs no key trip."""
    draw = np.random.default_rng(0)

    def examples(rows: int) -> Examples:
        features = draw.uniform(-1, 1, (rows, 20)).astype(np.float32)
        labels = (features[:, 0] > 0).astype(np.float32)
        return Examples(features, labels, pd.DataFrame(index=range(rows)))

    plan = plan_from_dict(
        {
            "name": "bench",
            "schema": {
                "name": "twenty",
                "label": {"column": "y", "positive": 1, "negative": 0},
                "columns": [
                    {"name": f"x{at}", "kind": "numeric", "lo": -1, "hi": 1} for at in range(20)
                ],
            },
            "institutions": [{"name": f"bank-{at:04}", "size": 100} for at in range(size)],
            "model": {"kind": "mlp", "hidden": [128, 133]},
            "training": {"rounds": 2, "steps": 1, "sample_rate": 0.1, "learning_rate": 0.1},
            "privacy": {"epsilon": "none"},
            "pruning": {"sparsity": 0.0},
            "evaluation": {"rounds": 1, "bins": 10},
        }
    )
    splits = {
        name: Splits(examples(72), examples(8), examples(20), source="bench") for name in plan.names
    }
    run = Run(plan)
    simulate(run, splits, seed=0)
    return run


def thousand(tell: Callable[[str], None]) -> dict[str, float]:
    """Return the figures of a round of 1,000 institutions and values, a tenth of whom drop out."""
    size = 1000
    times = serial_round(size, 1000, size // 10, tell)
    *institutions, opening = times
    return {
        "round_seconds_1000": sum(times),
        "round_seconds_1000_an_institution": sum(institutions) / size,
        "opening_seconds_1000": opening,
    }


def measured(console: Console, *, quick: bool) -> dict[str, float]:
    """Print the tables and return the figures."""
    figures: dict[str, float] = {}
    table = Table("values", "neighbours", "ours ms", "Flower ms", "times", title="client masking")
    for length in LENGTHS:
        for size in COHORTS:
            values, steps = np.zeros(length, np.int64), min(size, 10)
            flower = partial(flower_masks, values, 1, steps - 1)
            ours, theirs = interleaved(our_mask(length, size - 1), flower, repeats=5)
            theirs *= size / steps
            sign = "~" if steps < size else ""
            table.add_row(
                f"{length:,}",
                str(size - 1),
                f"{ours * 1e3:.2f}",
                f"{sign}{theirs * 1e3:.1f}",
                f"{theirs / ours:.1f}",
            )
    figures |= masking_figures(1_000_000, 9)
    console.print(table)
    for length in LENGTHS:
        if (encrypting := tenseal_seconds(length)) is not None:
            ratio = encrypting / seconds(our_mask(length, 9))
            console.print(f"TenSEAL CKKS encrypts {length:,} values in {ratio:.1f} times our mask")
            figures[f"mask_{length}_9_vs_tenseal"] = ratio

    table = Table("values", "n", "left", "ours ms", "Flower ms", "times", title="server unmasking")
    for length in LENGTHS:
        for size in COHORTS:
            if size * length > (20_000_000 if quick else 100_000_000):
                continue
            terms = Rehearsal.of(size).terms
            left = sorted({round(size * rate) for rate in DROPOUTS})
            left = [dropped for dropped in left if size - dropped >= terms.least]
            for dropped, ours in our_unmask(size, length, left).items():
                theirs, scaled = flower_unmask(length, size, dropped, terms.threshold)
                if (length, size, dropped) == (200_000, 100, 10):
                    theirs, scaled = (
                        flower_unmask_in_full(length, size, dropped, terms.threshold),
                        False,
                    )
                    figures["unmask_100_10pct_200k_vs_flower"] = theirs / ours
                table.add_row(
                    f"{length:,}",
                    str(size),
                    str(dropped),
                    f"{ours * 1e3:.1f}",
                    f"{'~' if scaled else ''}{theirs * 1e3:,.0f}",
                    f"{theirs / ours:.0f}",
                )
    console.print(table)

    run = whole_rounds(100)
    steady = run.reports[1]
    vector = len(pack(np.zeros(steady.kept, np.uint32), run.plan.aggregation.ring_bits))
    figures["round_seconds_100x20k"] = steady.seconds
    figures["protocol_bytes_n100"] = steady.bytes_up - vector
    figures["bytes_down_n100"] = steady.bytes_down
    sparse = len(pack(np.zeros(KEPT, np.uint32), run.plan.aggregation.ring_bits))
    figures["bytes_per_kept_weight"] = sparse / KEPT
    upload = sparse + figures["protocol_bytes_n100"]
    figures["upload_1m_90pct_vs_flower"] = WEIGHTS * FLOWER_BYTES / upload
    return figures


def main() -> None:
    """Measure, show, and with --json end in one flat object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the largest openings")
    parser.add_argument(
        "--thousand", action="store_true", help="add a round of 1,000 institutions: many minutes"
    )
    parser.add_argument("--json", action="store_true", help="end with one flat JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(stderr=options.json)
    found = measured(console, quick=options.quick)
    if options.thousand:
        found |= thousand(console.print)
    figures = {name: round(value, 3) for name, value in found.items()}
    for name, value in figures.items():
        console.print(f"{name}: {value:,}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
