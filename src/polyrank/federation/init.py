"""The files of a federation: keys, certificates, scripts, configuration; each where it belongs."""

import shlex
from pathlib import Path
from string import Template

from polyrank import files
from polyrank.errors import FederationError
from polyrank.federation import certificates
from polyrank.federation.plan import LOOPBACK, Plan
from polyrank.recipe.load import dump

SUPERLINK = Path("superlink")
SITES = Path("sites")
RUN = SUPERLINK / "run"
_TEMPLATES = Path(__file__).parent / "templates"
_SECRET, _PROGRAM = 0o600, 0o777
_APP = "superlink/app/polyrank_federation/"


class _Text(Template):
    delimiter = "@"  # $ is the shell's


def write(folder: Path, plan: Plan) -> None:
    """Write all that a federation needs, in one step.

    Args:
        folder: that is not there yet, or empty.
        plan: what the federation is to be.

    Raises:
        FederationError: the folder holds something.
        StorageError: it cannot be written.
    """
    refuse_full(folder)
    contents = _contents(plan)
    secret = {name: _SECRET for name in contents if name.endswith(".key")}
    programs = {name: _PROGRAM for name in contents if name.endswith(".sh")}
    files.write_folder(folder, contents, secret | programs)


def refuse_full(folder: Path) -> None:
    """Make sure that nothing is lost by writing to the folder.

    Raises:
        FederationError: the folder holds something, or is none.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FederationError(f"{folder} is there and not empty; name a new folder")


def _contents(plan: Plan) -> dict[str, bytes]:
    """By name: everything."""
    by = certificates.authority()
    authority = certificates.pem(by.certificate)
    server, key = certificates.server(by, list(dict.fromkeys((*plan.hosts, *LOOPBACK))))
    recipe = dump(plan.recipe).encode()
    contents = {
        "README.md": _readme(plan),
        "authority/authority.pem": authority,
        "authority/authority.key": certificates.private(by.key),
        "superlink/authority.pem": authority,
        "superlink/server.pem": server,
        "superlink/server.key": key,
        "superlink/recipe.yaml": recipe,
        **_superlink(plan),
    }
    for site in plan.clients:
        secret, public = certificates.node()
        contents[f"superlink/sites/{site}.pub"] = public
        own = {
            "node.key": secret,
            "node.pub": public,
            "authority.pem": authority,
            "recipe.yaml": recipe,
            **_site(plan, site),
        }
        contents |= {f"sites/{site}/{name}": data for name, data in own.items()}
    return contents


def _superlink(plan: Plan) -> dict[str, bytes]:
    inner = {"inner": plan.inner}
    sizes = {"sites": len(plan.clients), "deadline": plan.deadline}
    return {
        "superlink/start.sh": _script("superlink.sh", **inner),
        "superlink/flwr.sh": _script("flwr.sh", **inner),
        "superlink/register.sh": _script("register.sh"),
        "superlink/run.sh": _script("run.sh"),
        "superlink/superlink.service": _filled("superlink.service"),
        "superlink/gate.sh": _script("gate.sh"),
        "superlink/gate.conf": _filled("gate.conf", port=plan.port, **inner),
        "superlink/gate.service": _filled("gate.service"),
        "superlink/app/pyproject.toml": _filled("app.toml", **sizes),
        f"{_APP}__init__.py": b'"""Polyrank as a Flower app."""\n',
        f"{_APP}server.py": _part("server"),
        f"{_APP}client.py": _part("client"),
    }


def _part(side: str) -> bytes:
    """A module of the app: Flower looks for the assignment without importing anything."""
    return f"from polyrank.flower import {side}_app\n\napp = {side}_app.app\n".encode()


def _site(plan: Plan, site: str) -> dict[str, bytes]:
    called = f"{_bracketed(plan.hosts[0])}:{plan.port}"
    return {
        "start.sh": _script("supernode.sh", superlink=called, runtime=plan.ports[site]),
        "site.toml": _filled("site.toml", site=site, client=plan.clients[site]),
        "supernode.service": _filled("supernode.service", site=site),
    }


def _readme(plan: Plan) -> bytes:
    given = {"count": len(plan.clients), "server": plan.hosts[0], "port": plan.port}
    return _filled("README.md", **given)


def _script(name: str, **given: object) -> bytes:
    quoted = {key: shlex.quote(str(value)) for key, value in given.items()}
    return _filled(name, environment=_filled("environment.sh").decode().rstrip(), **quoted)


def _filled(name: str, **given: object) -> bytes:
    return _Text((_TEMPLATES / name).read_text()).substitute(given).encode()


def _bracketed(host: str) -> str:
    """An IPv6 address as it stands before a port."""
    return f"[{host}]" if ":" in host else host
