"""Who a terminal server is (certificate) and who may talk to it (token)."""

from __future__ import annotations

import hashlib
import os
import secrets
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

TOKEN_BYTES = 32
TOKEN_CHARS_MIN = 16
CERTIFICATE_DAYS = 3650


class IdentityError(Exception):
    """Token or certificate cannot be used; the text says what to do."""


def load_or_create_token(path: Path) -> tuple[str, bool]:
    """The token in a file, and whether it was made just now. Raises IdentityError."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        _write_private(path, token.encode())
        return token, True
    except OSError as error:
        raise IdentityError(f"the token file {path} cannot be read: {error}") from error
    return checked_token(token, f"the token file {path}"), False


def checked_token(token: str, where: str) -> str:
    """Raises IdentityError for one that could be guessed."""
    if len(token) < TOKEN_CHARS_MIN:
        raise IdentityError(
            f"{where} holds {len(token)} characters, at least {TOKEN_CHARS_MIN} are needed:"
            " delete it to have one made"
        )
    return token


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for the server. Raises IdentityError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(f"certificate {certificate} with key {key}: {error}") from error
    return context


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a PEM certificate, hex. Raises IdentityError."""
    try:
        first = certificate.read_text(encoding="ascii").partition("-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(first[0].strip() + "\n-----END CERTIFICATE-----\n")
    except (OSError, ValueError) as error:
        raise IdentityError(f"certificate {certificate} cannot be read: {error}") from error
    return hashlib.sha256(der).hexdigest()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Certificate and key in a folder, made at the first call; the client pins the fingerprint.

    Raises IdentityError when the `cryptography` package is missing.
    """
    certificate, key = folder / "terminal-server.crt", folder / "terminal-server.key"
    if certificate.exists() and key.exists():
        return certificate, key
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise IdentityError(
            'to make a certificate: pip install "mt5-stream-bridge[remote]"; or give --cert, --key'
        ) from error
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "MT5 Bridge terminal server")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    _write_private(
        key,
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read. Raises IdentityError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError as error:
        raise IdentityError(f"{path} cannot be written: {error}") from error
