"""The last advert of each member, which it is shown again before it does anything.

An advert says how long its owner's ledger was. An institution whose ledger was set back to an old
copy cannot know that by itself; its own signature tells it.
"""

from collections.abc import Callable, Mapping
from typing import final

from common.crypto.roster import Roster
from common.crypto.session import LastAdvert, Offer, Session

Known = Mapping[str, LastAdvert]
"""By the owner's signing key, in hexadecimal: whoever has new keys has signed nothing yet."""


def _nowhere(known: Known) -> None:
    """Keep adverts for as long as the process lasts."""


@final
class Adverts:
    """What the server knows of its members' adverts, over all plans and runs."""

    def __init__(self, *known: Known, save: Callable[[Known], None] = _nowhere) -> None:
        """Begin with the later of what is ``known``; ``save`` makes each change durable."""
        self._known: dict[str, LastAdvert] = {}
        self._save = save
        for adverts in known:
            self._add(adverts)

    def of(self, roster: Roster | None) -> dict[str, bytes]:
        """Return what is known of a roster's members, by name; plain aggregation has no roster."""
        members = roster.members if roster is not None else {}
        keys = {name: member.signing_public.hex() for name, member in members.items()}
        return {
            name: self._known[key].to_bytes() for name, key in keys.items() if key in self._known
        }

    def keep(self, roster: Roster, session: Session, offers: Mapping[str, Offer]) -> None:
        """Remember adverts that were checked, before anything further is asked of their owners."""
        digest = session.digest()
        if self._add(
            {
                roster.member(name).signing_public.hex(): LastAdvert(digest, offer.advert)
                for name, offer in offers.items()
            }
        ):
            self._save(self._known)

    def _add(self, adverts: Known) -> bool:
        later = {
            key: last
            for key, last in adverts.items()
            if key not in self._known or last.advert.sequence > self._known[key].advert.sequence
        }
        self._known |= later
        return bool(later)
