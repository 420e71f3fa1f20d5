"""Who signs for a federation, and how many of them must: part of the plan, so of its hash."""

from collections.abc import Mapping
from typing import Annotated, Self, final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.consent.refusals import UnsignedError
from common.crypto.keys import verify
from common.errors import ProtocolError

OperatorName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


@final
class Operators(BaseModel):
    """Operators by name with their Ed25519 keys in hexadecimal; ``quorum`` of them act."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quorum: Annotated[int, Field(ge=1)] = 1
    keys: dict[OperatorName, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.quorum > len(self.keys):
            raise ValueError(
                f"a quorum of {self.quorum} among {len(self.keys)} operators is out of reach:"
                " lower operators.quorum or name more operators"
            )
        if len(set(self.keys.values())) != len(self.keys):
            raise ValueError("one key stands under two operators: give each its own")
        return self

    def signed_by(
        self, label: bytes, statement: bytes, signatures: Mapping[str, bytes]
    ) -> tuple[str, ...]:
        """Return which operators signed; ``signatures`` go by key, and strangers' do not count.

        Raises:
            UnsignedError: a signature under an operator's key is not of that key.
        """
        signed = {name: key for name, key in sorted(self.keys.items()) if key in signatures}
        for name, key in signed.items():
            try:
                verify(bytes.fromhex(key), label, statement, signatures[key])
            except ProtocolError as error:
                raise UnsignedError(
                    f"the signature of operator {name!r} is not one of this text: what was signed"
                    " or the signature was altered"
                ) from error
        return tuple(signed)
