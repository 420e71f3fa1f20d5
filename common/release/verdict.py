"""What an institution says of a release, signed: yes or no, and nothing else."""

import json
from collections.abc import Iterable
from typing import Literal, Self, final

from pydantic import ValidationError

from common.consent.enrolment import MemberName
from common.consent.refusals import MalformedError
from common.crypto.body import Body, Signature, hash_facts
from common.crypto.keys import SIGNED_VERDICT, sign, verify
from common.crypto.refusals import BadSignatureError
from common.crypto.roster import Roster
from common.release.manifest import RunName
from common.release.refusals import OtherReleaseError
from common.trail.events import Hash

Word = Literal["sign-off", "objection"]


@final
class Verdict(Body):
    """A word on the release whose manifest has this hash, under the key of the roster."""

    run: RunName
    manifest: Hash
    name: MemberName
    word: Word
    signature: Signature

    @classmethod
    def make(cls, run: str, manifest: str, name: str, word: Word, private: bytes) -> Self:
        """Return the signed word of the owner of an Ed25519 key."""
        signature = sign(private, SIGNED_VERDICT, _claim(run, manifest, name, word))
        return cls(run=run, manifest=manifest, name=name, word=word, signature=signature)

    def require(self, manifest: str, roster: Roster) -> None:
        """Return if a member of this roster says it of this release.

        Raises:
            OtherReleaseError: it was said of another one.
            RevokedPeerError, UnknownPeerError: by nobody who has a say.
            BadSignatureError: not under the member's key.
        """
        if self.manifest != manifest:
            raise OtherReleaseError(
                f"the {self.word} of {self.name!r} is of release {self.manifest[:16]}, not"
                f" {manifest[:16]}: have it look at this one"
            )
        key = roster.member(self.name).signing_public
        claim = _claim(self.run, self.manifest, self.name, self.word)
        try:
            verify(key, SIGNED_VERDICT, claim, self.signature)
        except BadSignatureError as error:
            raise BadSignatureError(
                f"the {self.word} of {self.name!r} is not signed by its key in the roster: leave"
                " it out"
            ) from error

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `MalformedError` on anything else."""
        try:
            verdict = cls.model_validate_json(data)
        except (ValidationError, ValueError) as error:
            raise MalformedError("not a sign-off or objection: have it sent again") from error
        if verdict.to_bytes() != data:
            raise MalformedError("a sign-off or objection is not in canonical form")
        return verdict


def joined(verdicts: Iterable[Verdict]) -> bytes:
    """Return verdicts as a file, one a line, each once and in order."""
    return b"".join(sorted({verdict.to_bytes() + b"\n" for verdict in verdicts}))


def parted(data: bytes) -> tuple[Verdict, ...]:
    """Parse `joined`'s form; raise `MalformedError` on anything else."""
    verdicts = tuple(map(Verdict.from_bytes, data.splitlines()))
    if joined(verdicts) != data:
        raise MalformedError("sign-offs are not one a line and in order: have them sent again")
    return verdicts


def _claim(run: str, manifest: str, name: str, word: str) -> bytes:
    return hash_facts("verdict", [run, manifest, name, word])
