"""The common form of everything that is stored or exchanged: frozen, strict, hashable."""

import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.crypto.keys import KEY_SIZE, SIGNATURE_SIZE

Name = Annotated[str, Field(min_length=1)]
Key = Annotated[bytes, Field(min_length=KEY_SIZE, max_length=KEY_SIZE)]
Signature = Annotated[bytes, Field(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]
Time = Annotated[int, Field(ge=0, lt=2**33)]
"""Unix seconds."""


class Body(BaseModel):
    """Frozen, strictly typed; unknown fields are refused, and errors repeat no input."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        ser_json_bytes="hex",
        val_json_bytes="hex",
    )


def hash_facts(label: str, facts: object) -> bytes:
    """Return the SHA-256 of plain values under a label, 32 bytes."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"fedprune/1/{label}/{text}".encode()).digest()
