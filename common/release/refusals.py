"""Why a release, or what somebody said of one, is refused; no message holds a record.

PolicyError
└── ReleaseError              abstract
    ├── OtherFormatError        a manifest that another version of fedprune wrote
    ├── OtherPlanError          the model of another plan, schema or budget than was approved
    ├── OtherCharterError       under a charter that was not approved here
    ├── AlteredModelError       a file that is not the one in the manifest, or missing
    ├── OldReleaseError         no newer than one of the same run that was seen
    ├── OtherReleaseError       a sign-off or withdrawal of another release
    ├── JudgedError             a second word on the same release
    ├── NotFinalError           fewer sign-offs than the plan's quorum
    ├── WithdrawnError          the operators took it back
    └── NoReleaseError          nothing was released there

A sign-off by a revoked member is a `RevokedPeerError`, by one that never was a member an
`UnknownPeerError`, under another key a `BadSignatureError` (`common.crypto.refusals`).
"""

from common.errors import PolicyError


class ReleaseError(PolicyError):
    """Abstract: a release cannot be taken, or not be used."""

    reason = "release"


class OtherFormatError(ReleaseError):
    """The manifest is of a format that this version does not read."""

    reason = "other-format"


class OtherPlanError(ReleaseError):
    """The release is of a model that another plan was for."""

    reason = "another plan's model"


class OtherCharterError(ReleaseError):
    """The release was made under a charter that this institution did not approve."""

    reason = "not approved"


class AlteredModelError(ReleaseError):
    """A file of the model is not the one that was signed for."""

    reason = "altered model"


class OldReleaseError(ReleaseError):
    """A release that a later one of the same run has replaced."""

    reason = "old release"


class OtherReleaseError(ReleaseError):
    """What was said of another release is brought forward for this one."""

    reason = "word on another release"


class JudgedError(ReleaseError):
    """The institution has said something else of this release."""


class NotFinalError(ReleaseError):
    """Fewer institutions than the plan says have signed the release off."""


class WithdrawnError(ReleaseError):
    """The operators have withdrawn the release."""

    reason = "withdrawn"


class NoReleaseError(ReleaseError):
    """There is no manifest: nobody has released this."""
