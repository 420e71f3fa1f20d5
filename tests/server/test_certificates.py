"""The federation's certificates, held up against a TLS library that checks them all."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA384

from common.consent.authority import authority_fingerprints, require_authority
from common.consent.refusals import AuthorityError
from common.entropy import SeededEntropy
from common.errors import ConfigError
from server import certificates
from server.certificates import (
    AUTHORITY_DAYS,
    SERVER_DAYS,
    Key,
    certificate_pem,
    key_pem,
    new_authority,
    new_server,
    read_key,
)

DAY = 24 * 3600
NOW = int(datetime.now(UTC).timestamp())


def stream(n: int) -> bytes:
    return SeededEntropy(NOW).stream("certificates")(n)


def shake(folder: Path, issued: tuple[Key, x509.Certificate], pinned: bytes, host: str) -> None:
    """Have a client that knows ``pinned`` alone meet a server in memory; raise what it raises."""
    (folder / "key").write_bytes(key_pem(issued[0]))
    (folder / "pem").write_bytes(certificate_pem(issued[1]))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "pem", folder / "key")
    knowing = ssl.create_default_context(cadata=pinned.decode())
    knowing.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = knowing.wrap_bio(back, there, server_hostname=host)
    server = serving.wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue


@pytest.fixture(scope="module")
def authority() -> tuple[Key, x509.Certificate]:
    return new_authority("small", NOW, stream)


@pytest.mark.parametrize("public", ["bank.example", "192.0.2.7", "2001:db8::7"])
def test_a_member_knows_the_server_by_the_authority(
    tmp_path: Path, authority: tuple[Key, x509.Certificate], public: str
) -> None:
    issued, pinned = new_server(public, authority, NOW, stream), certificate_pem(authority[1])
    for host in (public, "localhost", "127.0.0.1"):
        shake(tmp_path, issued, pinned, host)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake(tmp_path, issued, pinned, "mallory.example")


def test_another_authority_or_a_date_outside_is_refused(
    tmp_path: Path, authority: tuple[Key, x509.Certificate]
) -> None:
    other = new_authority("small", NOW, lambda n: b"7" * n)
    pinned = certificate_pem(authority[1])
    forged = new_server("bank.example", other, NOW, stream)
    late = new_server("bank.example", authority, NOW - (SERVER_DAYS + 1) * DAY, stream)
    early = new_server("bank.example", authority, NOW + DAY, stream)
    problems = {"verify failed|signature": forged, "expired": late, "not yet valid": early}
    for problem, issued in problems.items():
        with pytest.raises(ssl.SSLCertVerificationError, match=problem):
            shake(tmp_path, issued, pinned, "bank.example")


def test_a_server_may_not_issue_certificates(
    tmp_path: Path, authority: tuple[Key, x509.Certificate]
) -> None:
    server = new_server("bank.example", authority, NOW, stream)
    below = new_server("mallory.example", server, NOW - 60, stream)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(tmp_path, below, certificate_pem(authority[1]), "mallory.example")
    own = server[0], server[1].subject
    builder = certificates._builder(own[0], datetime.fromtimestamp(NOW, UTC), 1, stream)
    builder = builder.subject_name(own[1]).issuer_name(own[1])
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(certificates._usage("key_cert_sign"), True)
    pem = certificate_pem(builder.sign(own[0], SHA384())).decode()
    with pytest.raises(AuthorityError, match="may not sign others"):
        authority_fingerprints(pem)


def test_an_authority_holds_for_its_years(authority: tuple[Key, x509.Certificate]) -> None:
    pem = certificate_pem(authority[1]).decode()
    for at in (NOW, NOW + AUTHORITY_DAYS * DAY):
        require_authority(pem, at)
    for at in (NOW - DAY, NOW + (AUTHORITY_DAYS + 1) * DAY):
        with pytest.raises(AuthorityError, match="the authority's certificate holds from"):
            require_authority(pem, at)
    with pytest.raises(ConfigError, match="before a server's"):
        new_server("bank.example", authority, NOW + (AUTHORITY_DAYS - 1) * DAY, stream)


def test_a_key_comes_back_and_nothing_else_does(authority: tuple[Key, x509.Certificate]) -> None:
    key, _ = authority
    assert read_key(key_pem(key)).private_numbers() == key.private_numbers()
    for data in (b"", b"SECRET", certificate_pem(authority[1])):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            certificates.read_key(data)
        assert "SECRET" not in str(caught.value)
