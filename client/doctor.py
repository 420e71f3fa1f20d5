"""`fedprune-client doctor`: what would keep an institution from taking part, before it does."""

import ssl
import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from client.config import ServerConfig, load_config, load_institution
from client.consent import PENDING, PIN, read_pin
from client.room import shortage
from common import checkup
from common.checkup import BAD, GOOD, NOTE, SKEW_SECONDS, Finding
from common.errors import ConfigError, FedpruneError, PolicyError
from common.plan import Plan

CONNECT_SECONDS = 10.0
SQLITE = b"SQLite format 3\0"
"""How each of its files begins."""


def examine(home: Path, now: datetime) -> Iterator[Finding]:
    """Yield a finding for each thing looked at; nothing of a record is in any."""
    yield from checkup.versions()
    yield from checkup.disk(home)
    joined = (home / PENDING).exists() and not (home / PIN).exists()
    renewal = "join the bundle that the server published, then approve it"
    yield from checkup.certificate(
        home / "ca.pem", now, "approve the bundle: fedprune-client approve" if joined else renewal
    )
    yield from checkup.private(home / "node.key")
    try:
        config = load_config(home / "client.toml")
    except ConfigError as error:
        yield Finding("client.toml", BAD, str(error), "approve a plan, or mend the file")
        return
    if config.server is None:
        remedy = "join a bundle and approve it, or name [server] and its address"
        yield Finding("server", BAD, "client.toml names none", remedy)
    else:
        yield from _server(home, config.server)
    yield from _consent(home, now)
    yield from _data(home, now)
    running = "`up` runs" if checkup.runs(home) else "`up` does not run"
    yield Finding("processes", GOOD, running)


def _server(home: Path, server: ServerConfig) -> Iterator[Finding]:
    url = f"https://{server.address}/health"
    try:
        trusted = ssl.create_default_context(cafile=home / "ca.pem")
        before = time.time()
        reply = httpx.get(url, verify=trusted, timeout=CONNECT_SECONDS, trust_env=False)
        reply.raise_for_status()
    except (httpx.HTTPError, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            said = f"{server.address}: its certificate is not one of ca.pem's, or is out of date"
            remedy = "have the operator run doctor; join again if the authority has changed"
        else:
            said = f"{server.address}: {type(error).__name__}"
            remedy = "let outgoing connections to this port through; is the server up?"
        yield Finding("server", BAD, said, remedy)
        return
    yield Finding("server", GOOD, f"{server.address} answers, by the certificate pinned here")
    theirs = parsedate_to_datetime(reply.headers["date"]).timestamp()
    # The header has whole seconds, and the answer took a while itself.
    skew = max(before - theirs - 1.0, theirs - time.time(), 0.0)
    if skew > SKEW_SECONDS:
        said = f"{skew:.0f} s from the server's"
        yield Finding("clock", BAD, said, "set this machine's clock by NTP: signed calls expire")
    else:
        yield Finding("clock", GOOD, f"within {SKEW_SECONDS:g} s of the server's")


def _consent(home: Path, now: datetime) -> Iterator[Finding]:
    """Look at what was approved by a bundle; who names plan and roster by hand has none."""
    if (pin := read_pin(home)) is None:
        return
    remedy = "have the operators publish anew, join that bundle and approve it"
    yield from checkup.consent(pin.expires, now, remedy)


def _ledger(file: Path) -> Iterator[Finding]:
    """Look at the ledger without opening it, which would write: `ledger verify` looks closely."""
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(SQLITE))
    except FileNotFoundError:
        yield Finding("ledger", GOOD, f"{file.name} is not there: the first round makes it")
    except OSError as error:
        remedy = "give this user the right to read and write it"
        yield Finding("ledger", BAD, f"{file}: {error.strerror}", remedy)
    else:
        if begins in (b"", SQLITE):
            yield Finding("ledger", GOOD, f"{file.name} is there")
        else:
            said = f"{file} holds no ledger"
            yield Finding("ledger", BAD, said, "restore the latest backup that verifies")


def _budget(home: Path, plan: Plan, now: int) -> Iterator[Finding]:
    """Look whether a new run would pass a limit, as the executor does when one begins."""
    try:
        lack, going = shortage(load_config(home / "client.toml").ledger, home, plan, now)
    except PolicyError as error:
        yield Finding("ledger", BAD, str(error), "restore the latest backup that verifies")
        return
    if lack and going:
        yield Finding("budget", NOTE, f"for another run than the open one: {lack}")
    elif lack:
        yield Finding("budget", BAD, lack, "[ledger.limits] of client.toml is this limit")
    else:
        yield Finding("budget", GOOD, "a run of the plan keeps within [ledger.limits]")


def _data(home: Path, now: datetime) -> Iterator[Finding]:
    try:
        institution = load_institution(home / "client.toml", looking=True)
        ledger = [*_ledger(home / load_config(home / "client.toml").ledger.file)]
        yield from ledger
        yield Finding("plan", GOOD, f"{institution.plan.name}, {institution.plan.digest()}")
        if all(found.state != BAD for found in ledger):
            yield from _budget(home, institution.plan, int(now.timestamp()))
        rows = institution.splits
    except FedpruneError as error:
        remedy = "see `fedprune-client check` for a table, `approve` for a plan"
        yield Finding("plan and data", BAD, str(error), remedy)
        return
    yield Finding("data", GOOD, f"{len(rows.train):,} rows to train on")
