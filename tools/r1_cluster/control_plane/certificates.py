"""The keys of a throw-away cluster, made with openssl: one CA per trust, short names inside.

EC keys, because RSA keys take a second each on a busy core. Everything lives as long as the
cluster's folder does.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from r1_cluster.commands import run
from r1_cluster.errors import MissingTool

DAYS = "3650"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM files."""

    certificate: Path
    key: Path


def _openssl(*argv: str) -> None:
    if shutil.which("openssl") is None:
        raise MissingTool("openssl is missing. Install it: it creates the cluster's certificates.")
    run(["openssl", *argv], f"openssl {argv[0]} failed")


def create_private_key(path: Path) -> Path:
    """Write a new P-256 private key that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.close(descriptor)
    # SEC 1, not PKCS 8: kube-apiserver reads no other form of a service account's EC key.
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path))
    return path


def create_authority(folder: Path, name: str) -> KeyPair:
    """Write `<name>.crt` and `<name>.key`, a self-signed authority."""
    pair = KeyPair(folder / f"{name}.crt", create_private_key(folder / f"{name}.key"))
    subject = f"/CN=r1-cluster-{name}"
    key, out = str(pair.key), str(pair.certificate)
    _openssl("req", "-x509", "-new", "-key", key, "-days", DAYS, "-subj", subject, "-out", out)
    return pair


def issue(
    folder: Path,
    name: str,
    authority: KeyPair,
    user: str,
    groups: tuple[str, ...] = (),
    alternative_names: tuple[str, ...] = (),
) -> KeyPair:
    """Write `<name>.crt` and `<name>.key`, signed by `authority`.

    `user` and `groups` are what Kubernetes reads from a client's certificate (CN and O);
    `alternative_names` are entries such as "IP:10.0.0.1" or "DNS:localhost".
    """
    pair = KeyPair(folder / f"{name}.crt", create_private_key(folder / f"{name}.key"))
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
    _openssl("req", "-new", "-key", str(pair.key), "-subj", subject, "-out", str(request))
    lines = ["extendedKeyUsage=serverAuth,clientAuth"]
    if alternative_names:
        lines.append("subjectAltName=" + ",".join(alternative_names))
    extensions.write_text("\n".join(lines) + "\n")
    _openssl(
        "x509", "-req", "-in", str(request), "-days", DAYS, "-extfile", str(extensions),
        "-CA", str(authority.certificate), "-CAkey", str(authority.key), "-CAcreateserial",
        "-out", str(pair.certificate),
    )  # fmt: skip
    request.unlink()
    extensions.unlink()
    return pair
