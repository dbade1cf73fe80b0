"""Who may talk to whom in a cluster of the tests: an authority of its own, tokens, kubeconfig files."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=30)
_MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files of one cluster, all below ``directory``. Made once, read by whoever takes the cluster over."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def server(self) -> Path:
        """The API server's certificate; its key beside it."""
        return self.directory / "server.crt"

    @property
    def kubelet_client(self) -> Path:
        """What the API server shows to the kubelet, for logs and exec; its key beside it."""
        return self.directory / "kubelet-client.crt"

    @property
    def accounts_key(self) -> Path:
        """Signs the tokens of service accounts."""
        return self.directory / "accounts.key"

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens.csv"

    def kubeconfig(self, user: str) -> Path:
        """``admin``, or a component's own."""
        return self.directory / f"{user}.kubeconfig"

    def token(self, user: str = "admin") -> str:
        for line in self.tokens.read_text().splitlines():
            token, _, name, *_ = line.split(",")
            if name == user:
                return token
        raise KeyError(f"{self.tokens} has no token of {user}")


def key_of(certificate: Path) -> Path:
    return certificate.with_suffix(".key")


def make_credentials(
    directory: Path, server: str, addresses: list[str], users: dict[str, tuple[str, str]]
) -> Credentials:
    """Write everything.

    ``server``: the API server's URL. ``addresses``: IP addresses and names that its certificate holds. ``users``: the
    file name of a kubeconfig to its user's name and group; ``admin`` is always there.
    """
    made = Credentials(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _Authority.make()
    made.ca.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    authority.issue(made.server, "kube-apiserver", None, addresses)
    authority.issue(made.kubelet_client, "kube-apiserver", _MASTERS, [])
    _write_key(made.accounts_key, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    lines = []
    for file, (user, group) in {"admin": ("admin", _MASTERS), **users}.items():
        token = secrets.token_hex(16)
        lines.append(f"{token},{user},{user},{group}")
        _write(made.kubeconfig(file), json.dumps(_kubeconfig(server, made.ca.read_bytes(), user, token), indent=1))
    _write(made.tokens, "\n".join(lines) + "\n")
    return made


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        to_sign = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _draft(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(to_sign, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(self, path: Path, name: str, group: str | None, addresses: list[str]) -> None:
        """Write a certificate, and its key beside it."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        both_sides = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        # Python's ssl refuses a certificate that does not name its authority's key.
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _draft(x509.Name(attributes), self.certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(issuer_key, critical=False)
            .add_extension(both_sides, critical=False)
        )
        if addresses:
            names = x509.SubjectAlternativeName([_general(address) for address in addresses])
            builder = builder.add_extension(names, critical=False)
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        _write_key(key_of(path), key)


def _draft(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _kubeconfig(server: str, ca: bytes, user: str, token: str) -> dict[str, object]:
    """JSON is YAML too. The authority lies inside, so that the file can be carried elsewhere."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
        "current-context": "tests",
    }


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    _write(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode(),
    )


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
