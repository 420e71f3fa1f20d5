"""Which node is which member's: by the key that it connects with, not by what it says."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from server.desk import NoServerError, find_desk
from server.home import BEFORE, MEMBERS, PUBLIC
from server.members import Members

log = logging.getLogger("fedprune.server")

Owners = Callable[[], Mapping[int, str]]
"""Return the nodes that members' keys are registered for, each with its member's name."""

_BEFORE = BEFORE.removesuffix(PUBLIC)


def owners_at(home: Path, *, must: bool) -> Owners | None:
    """Return what asks the SuperLink of a home; None where no `up` runs, as in trials by hand.

    Raises:
        NoServerError: none runs, and there ``must`` be one: no node is taken at its word for it.
    """
    # Its part of Flower takes a while to import, which simulations do without.
    from server.control import nodes  # noqa: PLC0415

    try:
        desk = find_desk(home)
    except NoServerError:
        if must:
            raise
        log.warning("%s: no `up` runs here: each node is taken at its word for whose it is", home)
        return None
    members = Members(home / MEMBERS)

    def owners() -> Mapping[int, str]:
        try:
            with desk.control() as control:
                registered, keys = nodes(control), members()
        except (httpx.HTTPError, OSError) as error:
            # It starts again: until it is back, nobody is asked.
            log.warning("the members' nodes are not known: %s", error)
            return {}
        # By the keys: whoever is on this machine can have registered another under any name.
        return {
            node.node_id: keys[node.public_key].removesuffix(_BEFORE)
            for node in registered
            if node.public_key in keys
        }

    return owners
