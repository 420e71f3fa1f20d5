"""What others decided of a model, what made it, and what would make it again."""

from collections.abc import Mapping

from server.model_file.agreed import Values
from server.model_file.records import Records
from server.model_file.shapes import Grid


def decisions(records: Records) -> Values:
    """Tell what operators and institutions signed."""
    released = records.released
    if released is None:
        return {}
    manifest, standing = released.manifest, released.standing
    return {
        "release": f"{manifest.number} of run {manifest.run}, {manifest.federation}",
        "release_hash": released.digest,
        "charter": manifest.charter,
        "operators": released.operators,
        "state": standing.state,
        "quorum": standing.quorum,
        "signed": standing.signed or "nobody",
        "objected": standing.objected or "nobody",
        "silent": standing.silent or "nobody",
        "revoked": manifest.revoked or "nobody",
        "withdrawn": standing.withdrawn or "no",
    }


def materials(records: Records) -> Values:
    """Tell what the software was made of."""
    found = records.materials
    if found is None:
        return {}
    return {
        "bill_of": (
            "of the machine that offered the release"
            if found.of_release
            else "of the machine that wrote this file; a release keeps that of the server"
        ),
        "bill": Grid(
            columns=("package", "version", "licence", "its files, SHA-256"),
            rows=tuple(
                (one.name, one.version, one.licence or None, one.files_hash or None)
                for one in found.components
            ),
        ),
    }


def reproduction(records: Records) -> Values:
    """Tell versions, hashes, and how to do it again."""
    run = records.run
    versions = run.facts.get("versions", {})
    seed = run.summary.get("seed")
    return {
        "versions": _pairs("package", "version", versions) if versions else None,
        "seed": "none: nobody can repeat a deployed run's noise" if seed is None else int(seed),
        "files": _pairs("file", "SHA-256", run.hashes),
        "again": (
            "fedprune-sim run plan.toml --out rehearsal shows what to expect of the plan"
            if seed is None
            else f"fedprune-sim run plan.toml --seed {seed} --out again, with the same --data,"
            " --partition and --dropout: the same model bit for bit on the same kind of processor"
        ),
    }


def _pairs(first: str, second: str, found: Mapping[str, object]) -> Grid:
    rows = tuple((name, str(value)) for name, value in found.items())
    return Grid(columns=(first, second), rows=rows)
