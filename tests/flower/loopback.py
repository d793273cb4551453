"""A real federation on loopback: SuperLink, SuperNodes, TLS, node authentication."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polyrank.federation import certificates
from polyrank.federation.processes import Family, family
from polyrank.federation.up import free_ports, listens

APP = Path(__file__).parents[2] / "examples/flower-app"
BIN = Path(sys.executable).parent
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
}
# Flower's command for each key, at the cost of one start.
REGISTER = """
import sys
from flwr.cli.app import app
for key in sys.argv[1:]:
    app(["supernode", "register", key, "link"], standalone_mode=False)
"""


def keys(folder: Path) -> None:
    """An authority, and the server's certificate and key."""
    by = certificates.authority()
    server, key = certificates.server(by, ["127.0.0.1", "localhost"])
    (folder / "authority.pem").write_bytes(certificates.pem(by.certificate))
    (folder / "server.pem").write_bytes(server)
    (folder / "server.key").write_bytes(key)


def node_key(path: Path) -> None:
    """A node's key pair."""
    secret, public = certificates.node()
    path.write_bytes(secret)
    path.chmod(0o600)
    path.with_suffix(".pub").write_bytes(public)


def words(config: Mapping[str, object]) -> str:
    """A config as Flower's command line takes it."""
    return " ".join(f"{k}={v}" if isinstance(v, int) else f'{k}="{v}"' for k, v in config.items())


@dataclass
class Loopback:
    """Its processes, and where their files lie."""

    folder: Path
    members: Family
    port: int

    @property
    def environment(self) -> dict[str, str]:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # Flower starts its own by their names
        return {**os.environ, **QUIET, "PATH": path, "FLWR_HOME": str(self.folder / "flwr")}

    def start(self, name: str, program: str, *arguments: str | Path, **more: str) -> None:
        self.members.start(name, [BIN / program, *arguments], {**self.environment, **more})

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
        while not listens(self.port, self.folder / "authority.pem"):
            if time.monotonic() > end:
                raise TimeoutError(self.members.log("superlink").read_text())
            time.sleep(0.2)

    def register(self, *names: str) -> None:
        """Let nodes in by keys of their own."""
        made = [self.folder / f"{name}.key" for name in names]
        for key in made:
            node_key(key)
        self._done("python", "-c", REGISTER, *(key.with_suffix(".pub") for key in made))

    def supernode(self, name: str, config: Mapping[str, object]) -> None:
        """A node that was let in."""
        self.start(
            name, "flower-supernode", "--root-certificates", self.folder / "authority.pem",
            "--superlink", f"127.0.0.1:{self.port}",
            "--auth-supernode-private-key", self.folder / f"{name}.key",
            "--host", "127.0.0.1", "--port", str(*free_ports(1)), "--node-config", words(config),
            FLWR_HOME=str(self.folder / f"flwr-{name}"),
        )  # fmt: skip

    def run(self, **config: object) -> str:
        """Run the app in examples/ to its end."""
        return self._done("flwr", "run", APP, "link", "--stream", "--run-config", words(config))

    def _done(self, program: str, *asked: str | Path) -> str:
        done = subprocess.run(
            [BIN / program, *asked], env=self.environment, capture_output=True, text=True,
            timeout=300, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@contextmanager
def federation(folder: Path, sites: Sequence[Mapping[str, object]]) -> Iterator[Loopback]:
    """A SuperLink and a SuperNode for each node config; all ended with the block."""
    keys(folder)
    (folder / "flwr").mkdir()
    (port,) = free_ports(1)
    (folder / "flwr/config.toml").write_text(
        f'[superlink]\ndefault = "link"\n\n[superlink.link]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{folder / "authority.pem"}"\ninsecure = false\n'
    )
    with family(folder) as members:
        loopback = Loopback(folder, members, port)
        loopback.superlink()
        loopback.register(*(str(config["site"]) for config in sites))
        for config in sites:
            loopback.supernode(str(config["site"]), config)
        yield loopback
