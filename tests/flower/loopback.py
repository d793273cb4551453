"""A real federation on loopback: SuperLink, SuperNodes, TLS, node authentication."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

APP = Path(__file__).parents[2] / "examples/flower-app"
BIN = Path(sys.executable).parent
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
}
PRIVATE = serialization.NoEncryption()


def certificates(folder: Path) -> None:
    """An authority, and a certificate of the server at 127.0.0.1."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    now = datetime.now(UTC)

    def signed(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *more: object) -> bytes:
        made = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(root)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        )  # fmt: skip
        for extension in more:
            made = made.add_extension(extension, critical=False)
        return made.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    (folder / "authority.pem").write_bytes(
        signed(root, authority, x509.BasicConstraints(True, None))
    )
    reached = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    (folder / "server.pem").write_bytes(signed(name, server, x509.SubjectAlternativeName(reached)))
    pkcs8 = serialization.PrivateFormat.PKCS8
    (folder / "server.key").write_bytes(
        server.private_bytes(serialization.Encoding.PEM, pkcs8, PRIVATE)
    )


def node_key(path: Path) -> None:
    """A node's key pair, as ssh-keygen makes them."""
    key = ec.generate_private_key(ec.SECP384R1())
    openssh = serialization.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, openssh, PRIVATE))
    path.chmod(0o600)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.with_suffix(".pub").write_bytes(public + b"\n")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Loopback:
    """Its processes by name, and where their files lie."""

    folder: Path
    port: int = field(default_factory=free_port)
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # Flower starts its own by their names
        return {**os.environ, **QUIET, "PATH": path, "FLWR_HOME": str(self.folder / "flwr")}

    def start(self, name: str, *command: str | Path, **more: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.started[name] = subprocess.Popen(
                [str(BIN / str(command[0])), *map(str, command[1:])], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env={**self.environment, **more}, start_new_session=True,
            )  # fmt: skip

    def superlink(self) -> None:
        self.start(
            "superlink", "flower-superlink", "--ssl-certfile", self.folder / "server.pem",
            "--ssl-keyfile", self.folder / "server.key",
            "--ssl-ca-certfile", self.folder / "authority.pem",
            "--enable-supernode-auth", "--disable-runtime-dependency-installation",
            "--host", "127.0.0.1", "--port", str(self.port),
            "--database", self.folder / "superlink.db",
        )  # fmt: skip
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.2)
        raise TimeoutError((self.folder / "superlink.log").read_text())

    def supernode(self, name: str, config: Mapping[str, object]) -> None:
        """A node with a key of its own, let in the first time."""
        key = self.folder / f"{name}.key"
        if not key.exists():
            node_key(key)
            self.flwr("supernode", "register", key.with_suffix(".pub"), "link")
        told = " ".join(f"{k}={v}" if isinstance(v, int) else f'{k}="{v}"'
                        for k, v in config.items())  # fmt: skip
        self.start(
            name, "flower-supernode", "--root-certificates", self.folder / "authority.pem",
            "--superlink", f"127.0.0.1:{self.port}", "--auth-supernode-private-key", key,
            "--host", "127.0.0.1", "--port", str(free_port()), "--node-config", told,
            FLWR_HOME=str(self.folder / f"flwr-{name}"),
        )  # fmt: skip

    def flwr(self, *words: str | Path, seconds: float = 300) -> str:
        """What Flower's command line says."""
        done = subprocess.run(
            [BIN / "flwr", *words], env=self.environment, capture_output=True, text=True,
            timeout=seconds, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, **config: object) -> str:
        """Run the app in examples/ to its end."""
        told = " ".join(f"{k}={v}" if isinstance(v, int) else f'{k}="{v}"'
                        for k, v in config.items())  # fmt: skip
        return self.flwr("run", APP, "link", "--stream", "--run-config", told)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End one of them and what it started."""
        process = self.started.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait()


@contextmanager
def federation(folder: Path, sites: Sequence[Mapping[str, object]]) -> Iterator[Loopback]:
    """A SuperLink and a SuperNode for each node config; all ended with the block."""
    loopback = Loopback(folder)
    certificates(folder)
    (folder / "flwr").mkdir()
    address, trusted = f"127.0.0.1:{loopback.port}", folder / "authority.pem"
    (folder / "flwr/config.toml").write_text(
        f'[superlink]\ndefault = "link"\n\n[superlink.link]\naddress = "{address}"\n'
        f'root-certificates = "{trusted}"\ninsecure = false\n'
    )
    try:
        loopback.superlink()
        for config in sites:
            loopback.supernode(str(config["site"]), config)
        yield loopback
    finally:
        for process in loopback.started.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        end = time.monotonic() + 15
        for name in list(loopback.started):
            with suppress(subprocess.TimeoutExpired):
                loopback.started[name].wait(max(0.1, end - time.monotonic()))
            loopback.kill(name)
