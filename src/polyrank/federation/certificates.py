"""A test authority, its server certificate, and the keys by which the server knows its sites."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SKEW = timedelta(hours=1)  # a site's clock may be behind
_AUTHORITY, _SERVER = timedelta(days=3650), timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs the server's certificate; sites trust it and nobody else."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def authority() -> Authority:
    """A new authority (EC P-256, ten years)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Polyrank test authority")
    built = (
        _certificate(name, name, key.public_key(), key.public_key(), _AUTHORITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return Authority(key, built.sign(key, hashes.SHA256()))


def server(by: Authority, hosts: Sequence[str]) -> tuple[bytes, bytes]:
    """The server's certificate and private key (EC P-256, one year), as PEM.

    Args:
        by: who signs it.
        hosts: names and addresses under which sites reach the server.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public, issuer = key.public_key(), by.key.public_key()
    built = (
        _certificate(_name("Polyrank SuperLink"), by.certificate.subject, public, issuer, _SERVER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_reached(h) for h in hosts]), critical=False)
    )
    return pem(built.sign(by.key, hashes.SHA256())), private(key)


def node() -> tuple[bytes, bytes]:
    """A site's private and public key (EC P-384), in the format of ssh-keygen."""
    key = ec.generate_private_key(ec.SECP384R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return secret, public + b"\n"


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as it lies in a file."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as it lies in a file, without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    valid: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _reached(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
