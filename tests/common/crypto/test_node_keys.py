"""A node's key in the forms that Flower reads, and the proof that its owner holds it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from flwr.cli.supernode.register import try_load_public_key

from common.crypto import node_keys
from common.crypto.refusals import BadKeyError, BadSignatureError
from common.entropy import SeededEntropy

KEY = node_keys.generate_key(SeededEntropy(0).stream("node"))
LINE = node_keys.public_line(KEY)
PROOF = node_keys.prove(KEY, b"label/", b"statement")


def test_the_order_is_that_of_the_group() -> None:
    one = ec.derive_private_key(node_keys._ORDER - 1, node_keys.P384).public_key().public_numbers()
    base = ec.derive_private_key(1, node_keys.P384).public_key().public_numbers()
    assert one.x == base.x
    assert one.y != base.y
    with pytest.raises(ValueError, match="out of range"):
        ec.derive_private_key(node_keys._ORDER + 1, node_keys.P384)


def test_flower_registers_the_public_line(tmp_path: Path) -> None:
    path = tmp_path / "node.key.pub"
    path.write_text(LINE + "\n")
    assert try_load_public_key(path).startswith(b"-----BEGIN PUBLIC KEY-----")


def test_a_private_key_comes_back() -> None:
    data = node_keys.private_file(KEY)
    assert data.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert node_keys.read_private(data).private_numbers() == KEY.private_numbers()
    ed25519 = Ed25519PrivateKey.from_private_bytes(b"S" * 32).private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    for other in (b"", b"SECRET", data[:100], ed25519):
        with pytest.raises(BadKeyError) as caught:
            node_keys.read_private(other)
        assert "SECRET" not in str(caught.value)


def test_a_proof_holds_for_one_key_label_and_statement() -> None:
    node_keys.require_proof(LINE, b"label/", b"statement", PROOF)
    other = node_keys.public_line(node_keys.generate_key(SeededEntropy(1).stream("node")))
    cases = [
        (other, b"label/", b"statement", PROOF),
        (LINE, b"labels/", b"statement", PROOF),
        (LINE, b"label/", b"Statement", PROOF),
        (LINE, b"label/", b"statement", PROOF[:-1]),
        (LINE, b"label/", b"statement", b""),
    ]
    for case in cases:
        with pytest.raises(BadSignatureError):
            node_keys.require_proof(*case)


def test_another_kind_or_form_of_key_is_refused() -> None:
    short = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    other = short.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    for line in ("", "ssh-rsa AAAA", other, LINE + " me@bank", LINE + "\n", f" {LINE}"):
        with pytest.raises(BadKeyError):
            node_keys.require_proof(line, b"label/", b"statement", PROOF)
