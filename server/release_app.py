"""The ServerApp that hands a release round: manifest, files, and what institutions said of it.

It goes the way that rounds go, so institutions open no port for it. Each checks what comes and
answers with the word that its people have signed since, if they have.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flwr.app import Context
from flwr.app.user_config import UserConfig
from flwr.serverapp import Grid, ServerApp

from common import messages as wire
from common.durable import write_atomically
from common.errors import PolicyError
from common.release.kept import Kept
from common.release.standing import roster_of
from common.release.verdict import Verdict
from common.trail.interface import refusals_noted
from server.exchange import Exchange
from server.home import ServerHome
from server.owners import owners_at
from server.releases import open_release, revoked_since, take_verdict

log = logging.getLogger("fedprune.server")

HOME_KEY, RUN_KEY = "home", "released"
"""Run configuration keys: the server's folder, and the run whose release it is."""

OFFER_SECONDS = 20.0
"""For which institutions that are not connected are waited for, and each trip."""

REACHED: Final = "reached.json"
"""In a release's folder: who holds all of it, and why others would not, the last time."""


@dataclass(frozen=True)
class Reached:
    """Who has the whole release; who never had its say asked, and what others answered."""

    holds: tuple[str, ...]
    absent: tuple[str, ...]
    refused: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(vars(self), indent=1).encode()


def configured(home: Path, run: str) -> UserConfig:
    """Return what the app is told of a release."""
    return {HOME_KEY: str(home), RUN_KEY: run}


def hand_round(home: ServerHome, run: str, exchange: Exchange) -> Reached:
    """Give every member that is connected what it lacks of a release, and collect what they say.

    Raises:
        NoReleaseError, AlteredModelError: there is nothing to give.
    """
    release = open_release(home, run)
    files = release.folder.require_files(release.manifest)
    roster = roster_of(release.manifest, release.charter, *revoked_since(home, release))
    met, refused = exchange.meet(_request(release), roster.names, run)
    wanted = {name: reply.wanted for name, reply in met.items()}
    for file, data in files.items():
        lacking = [name for name, missing in wanted.items() if file in missing]
        request = wire.DeliverRequest(run, file, data)
        replies = exchange.call(dict.fromkeys(lacking, request), wire.OfferReply, run)
        wanted |= {name: reply.wanted for name, reply in replies.items()}
        refused += [f"{name}: {why}" for name, why in exchange.refused.items()]
    if sum(_taken(home, name, reply.verdict) for name, reply in met.items() if reply.verdict):
        # Each is to know by itself whether the release is final.
        exchange.call(dict.fromkeys(met, _request(release)), wire.OfferReply, run)
    holds = tuple(sorted(name for name, missing in wanted.items() if not missing))
    reached = Reached(holds, tuple(n for n in roster.names if n not in met), tuple(refused))
    write_atomically(release.folder.path / REACHED, reached.to_bytes())
    return reached


def _request(release: Kept) -> wire.OfferRequest:
    withdrawal = release.withdrawal
    return wire.OfferRequest(
        release.bundle.to_bytes(),
        [verdict.to_bytes() for verdict in release.verdicts],
        b"" if withdrawal is None else withdrawal.to_bytes(),
    )


def _taken(home: ServerHome, name: str, data: bytes) -> bool:
    """Take an institution's word; one that does not count is noted and left out."""
    try:
        with refusals_noted(home.trail, f"word of {name} on a release"):
            take_verdict(home, Verdict.from_bytes(data))
    except PolicyError as error:
        log.warning("%s: %s", name, error)
        return False
    return True


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Hand a release round on a run of its own."""
    told: Mapping[str, object] = context.run_config
    home = ServerHome(Path(str(told[HOME_KEY])))
    # None but the executor of `up` runs it.
    owners = owners_at(home.path, must=True)
    exchange = Exchange(grid, OFFER_SECONDS, trail=home.trail, owners=owners)
    reached = hand_round(home, str(told[RUN_KEY]), exchange)
    log.info("%d institutions hold the release", len(reached.holds))
