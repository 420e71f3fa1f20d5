"""What both `doctor` commands look at, and how they say what they found."""

import ctypes
import os
import platform
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import typer
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from common.console import errors, printable, tell_json
from common.errors import ConfigError, FedpruneError
from common.processes import is_up

FLOWER = "1.41.0"
"""The version whose APIs this project was tested with.

SuperLink 1.41 lets SuperNodes of other versions in without a word; only executors must be of its
own major and minor version.
"""

FREE_BYTES = 1 << 30
SOON = timedelta(days=30)
CONSENT_SOON = timedelta(days=14)
"""Before consent ends: time to publish anew, and for all members to approve."""

SKEW_SECONDS = 5.0
"""Flower refuses a SuperNode whose clock is ahead by more."""

_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""

BAD, NOTE, GOOD = "bad", "note", "good"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it stands (`GOOD`, `NOTE`, `BAD`), and what to do about it."""

    what: str
    state: str
    said: str
    remedy: str = ""


def show(findings: Iterable[Finding], *, as_json: bool = False) -> None:
    """Print each finding; raise `FedpruneError` if one is bad, which ends the command with 1."""
    found = list(findings)
    if as_json:
        tell_json([asdict(finding) for finding in found])
    else:
        width = max(len(finding.what) for finding in found)
        for finding in found:
            typer.echo(printable(f"{finding.state:4}  {finding.what:{width}}  {finding.said}"))
            if finding.remedy:
                errors.print(printable(f"      {finding.what}: {finding.remedy}"), markup=False)
    if bad := [finding.what for finding in found if finding.state == BAD]:
        raise FedpruneError(f"not ready: {', '.join(bad)}")


def versions() -> list[Finding]:
    """Compare the installed packages with those that were tested."""
    flower = version("flwr")
    good = flower == FLOWER
    return [
        Finding(
            "versions",
            GOOD if good else BAD,
            f"flwr {flower}, torch {version('torch')}, Python {platform.python_version()}",
            "" if good else f"install flwr=={FLOWER}, as requirements.lock does",
        )
    ]


def disk(folder: Path) -> list[Finding]:
    """Look for room and for the right to write in ``folder``."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        said = f"{folder}: {error.strerror}"
        return [Finding("disk", BAD, said, "name the folder by --home")]
    # Asked, not tried: whoever looks may be another user than `up`, and leaves nothing behind.
    if not os.access(folder, os.W_OK | os.X_OK):
        said = f"{folder}: this user may not write there"
        return [Finding("disk", BAD, said, f"give this user the right to write in {folder}")]
    said = f"{free / (1 << 30):.1f} GiB free in {folder}"
    if free < FREE_BYTES:
        return [Finding("disk", BAD, said, "make room: ledger and journal need 1 GiB")]
    return [Finding("disk", GOOD, said)]


def private(path: Path) -> list[Finding]:
    """Look whether a private file is there and its owner's alone."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        said = f"{path}: {error.strerror}"
        return [Finding(path.name, BAD, said, "restore it from the backup")]
    if mode & 0o077:
        said = f"mode {mode:04o} lets others at it"
        return [Finding(path.name, BAD, said, f"chmod 0600 {path}")]
    return [Finding(path.name, GOOD, f"mode {mode:04o}")]


def certificate(path: Path, now: datetime, renewal: str) -> list[Finding]:
    """Look whether ``path`` is a certificate that is valid ``now``; ``renewal`` says what to do."""
    try:
        valid = read_certificate(path)
    except ConfigError as error:
        return [Finding(path.name, BAD, str(error), renewal)]
    begins, ends = valid.not_valid_before_utc, valid.not_valid_after_utc
    if now < begins:
        said = f"valid from {begins:%Y-%m-%d %H:%M} UTC, and the clock says {now:%Y-%m-%d %H:%M}"
        return [Finding(path.name, BAD, said, "set this machine's clock")]
    if now > ends:
        return [Finding(path.name, BAD, f"expired on {ends:%Y-%m-%d}", renewal)]
    said = f"valid until {ends:%Y-%m-%d}"
    if ends - now < SOON:
        return [Finding(path.name, NOTE, said, renewal)]
    return [Finding(path.name, GOOD, said)]


def consent(expires: int, now: datetime, remedy: str) -> list[Finding]:
    """Look whether consent that ``expires`` at a Unix time still holds."""
    ends = datetime.fromtimestamp(expires, UTC)
    if ends <= now:
        return [Finding("consent", BAD, f"expired on {ends:%Y-%m-%d}", remedy)]
    said = f"holds until {ends:%Y-%m-%d}"
    if ends - now < CONSENT_SOON:
        return [Finding("consent", NOTE, said, remedy)]
    return [Finding("consent", GOOD, said)]


def clock() -> list[Finding]:
    """Ask the kernel whether this machine's clock is held to the time of others."""
    remedy = "have it set by NTP: calls are signed with the time, and certificates have dates"
    if (state := _clock_state()) is None:
        return [Finding("clock", NOTE, "this system does not say whether it is right", remedy)]
    if state == _UNSYNCHRONISED:
        return [Finding("clock", NOTE, "nothing sets it, says the kernel", remedy)]
    return [Finding("clock", GOOD, "set by NTP or the like, says the kernel")]


def _clock_state() -> int | None:
    """Return what adjtimex(2) says when it is to change nothing, if there is such a call."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    # A struct timex of zeros: no mode asks for a change. Twice as long as any kernel's.
    state = int(adjtimex(ctypes.create_string_buffer(512)))
    return state if state >= 0 else None


def runs(home: Path) -> bool:
    """Say whether an `up` holds ``home``, and make no folder for the answer."""
    return (home / "state").is_dir() and is_up(home)


def issued(path: Path, authority: Path) -> list[Finding]:
    """Look whether the certificate ``path`` was signed by ``authority``."""
    with suppress(ConfigError, OSError, ValueError):
        served = read_certificate(path)
        for issuer in x509.load_pem_x509_certificates(authority.read_bytes()):
            with suppress(ValueError, TypeError, InvalidSignature):
                served.verify_directly_issued_by(issuer)
                return [Finding("issuer", GOOD, f"{authority.name} issued {path.name}")]
    said = f"{path.name} was not issued by {authority.name}"
    return [Finding("issuer", BAD, said, "institutions would refuse it: issue it again")]


def read_certificate(path: Path) -> x509.Certificate:
    """Read a PEM file; raise `ConfigError` if it holds no certificate."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: holds no certificate") from error
