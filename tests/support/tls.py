"""TLS for a test's servers: a CA, certificates, and a server that was built with TLS."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.redis_server import free_port, server_binary

LOOPBACK = "IP:127.0.0.1,DNS:localhost"


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True, timeout=30)


def authority(directory: Path, name: str) -> None:
    openssl(
        directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", f"{name}.key", "-out", f"{name}.crt",
    )  # fmt: skip


def certificate(directory: Path, name: str, ca: str, *, hosts: str, ends: str = "20991231000000Z") -> None:
    """Create a key and a certificate that `ca` signs. `ends` may be in the past."""
    openssl(
        directory, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
        "-keyout", f"{name}.key", "-out", f"{name}.csr",
    )  # fmt: skip
    (directory / f"{name}.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase={name}.db\nserial={name}.srl\n"
        f"default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n[x]\nsubjectAltName={hosts}\n"
    )
    (directory / f"{name}.db").touch()
    openssl(
        directory, "ca", "-batch", "-config", f"{name}.cnf", "-extensions", "x", "-cert", f"{ca}.crt",
        "-keyfile", f"{ca}.key", "-in", f"{name}.csr", "-out", f"{name}.crt", "-create_serial",
        "-startdate", "20200101000000Z", "-enddate", ends,
    )  # fmt: skip


def tls_binary() -> Path | None:
    """Return a server that was built with TLS: the one to test, or else Debian's. None if there is none."""
    for binary in (server_binary(), Path("/usr/bin/redis-server"), Path("/usr/bin/valkey-server")):
        if binary.exists():
            ask = [binary, "--port", "0", "--tls-port", str(free_port())]
            said = subprocess.run(ask, capture_output=True, text=True, timeout=20, cwd="/tmp")
            if "configured" in said.stdout:  # It complains about a missing certificate, so it supports TLS.
                return binary
    return None


@dataclass(frozen=True, slots=True)
class Tls:
    """A CA with a certificate for servers and one for clients, in `directory`, and a server that supports TLS."""

    binary: Path
    directory: Path

    @property
    def settings(self) -> dict[str, object]:
        """The settings of a server or Sentinel: no plain port, and no client without a certificate."""
        at = self.directory
        return {
            "tls-cert-file": at / "server.crt", "tls-key-file": at / "server.key", "tls-ca-cert-file": at / "ours.crt",
            "tls-auth-clients": "yes", "tls-replication": "yes",
        }  # fmt: skip

    @property
    def query(self) -> str:
        """The query of an address, after its `?`."""
        at = self.directory
        return f"ssl_ca_certs={at}/ours.crt&ssl_certfile={at}/client.crt&ssl_keyfile={at}/client.key"


def make_tls(directory: Path) -> Tls | None:
    """Create the CA and the certificates. Returns None without openssl or without a server that supports TLS."""
    binary = tls_binary()
    if binary is None or not shutil.which("openssl"):
        return None
    authority(directory, "ours")
    for name in ("server", "client"):
        certificate(directory, name, "ours", hosts=LOOPBACK)
    return Tls(binary, directory)
