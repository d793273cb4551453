"""What `polyrank federation init` writes: complete, verifiable, no secret in a wrong place."""

import configparser
import shutil
import ssl
import stat
import subprocess
import tomllib
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from polyrank.errors import FederationError, RecipeError
from polyrank.federation import certificates, init
from polyrank.federation.plan import Plan, checked_host, first_clients, site_names
from polyrank.recipe import Recipe, load

SITE = {
    "authority.pem", "node.key", "node.pub", "recipe.yaml", "site.toml", "start.sh",
    "supernode.service",
}  # fmt: skip


def files(folder: Path) -> dict[str, Path]:
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


def test_every_site_gets_its_own_things_and_no_more(written: Path) -> None:
    for site in ("site-1", "site-2", "site-3"):
        assert {p.name for p in (written / "sites" / site).iterdir()} == SITE
        told = tomllib.loads((written / "sites" / site / "site.toml").read_text())
        assert told["site"] == site
    told = [tomllib.loads(p.read_text())["client"] for p in written.glob("sites/*/site.toml")]
    assert sorted(told) == ["0", "4", "9"]


def test_every_secret_lies_in_one_place_and_only_its_owner_reads_it(written: Path) -> None:
    secrets = {n: p.read_bytes() for n, p in files(written).items() if b"PRIVATE" in p.read_bytes()}
    assert set(secrets) == {
        "authority/authority.key", "superlink/server.key",
        *(f"sites/site-{i}/node.key" for i in (1, 2, 3)),
    }  # fmt: skip
    assert len(set(secrets.values())) == len(secrets)
    for name in secrets:
        assert stat.S_IMODE((written / name).stat().st_mode) == 0o600


def test_the_server_lets_in_the_keys_that_the_sites_hold(written: Path) -> None:
    for site in ("site-1", "site-2", "site-3"):
        own = written / "sites" / site
        key = serialization.load_ssh_private_key((own / "node.key").read_bytes(), None)
        known = serialization.load_ssh_public_key((own / "node.pub").read_bytes())
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp384r1"
        assert key.public_key() == known
        assert (written / f"superlink/sites/{site}.pub").read_bytes() == (
            own / "node.pub"
        ).read_bytes()


def test_ssh_keygen_reads_the_keys(written: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen")
    own = written / "sites/site-1"
    said = subprocess.run(
        ["ssh-keygen", "-y", "-f", own / "node.key"], capture_output=True, check=True
    )
    assert said.stdout.split()[:2] == (own / "node.pub").read_bytes().split()[:2]


def test_the_certificate_names_the_hosts_and_is_signed_by_the_authority(
    tmp_path: Path, plan: Plan
) -> None:
    init.write(tmp_path / "f", replace(plan, hosts=("fed.example.org", "10.1.2.3", "::1")))
    authority, server = (
        x509.load_pem_x509_certificate((tmp_path / "f/superlink" / name).read_bytes())
        for name in ("authority.pem", "server.pem")
    )
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"fed.example.org", "localhost"}
    addresses = {"10.1.2.3", "::1", "127.0.0.1"}
    assert set(names.get_values_for_type(x509.IPAddress)) == set(map(ip_address, addresses))
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    start = (tmp_path / "f/sites/site-1/start.sh").read_text()
    assert f"${{SUPERLINK:-fed.example.org:{plan.port}}}" in start


def handshake(chain: Path, key: Path, trusted: Path, host: str) -> None:
    """TLS between a server with this certificate and a client with this trust, in memory."""
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(chain, key)
    server = offered.wrap_bio(there, here, server_side=True)
    trust = ssl.create_default_context(cafile=trusted)
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    client = trust.wrap_bio(here, there, server_hostname=host)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_tls_clients_verify_it_for_its_hosts_and_authority_alone(written: Path) -> None:
    superlink = written / "superlink"
    mine = (superlink / "server.pem", superlink / "server.key")
    handshake(*mine, superlink / "authority.pem", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(*mine, superlink / "authority.pem", "other.example.org")
    other = written / "other.pem"
    other.write_bytes(certificates.pem(certificates.authority().certificate))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*mine, other, "127.0.0.1")


def test_scripts_are_programs_that_bash_reads_and_that_tell_nobody(written: Path) -> None:
    scripts = list(written.rglob("*.sh"))
    assert len(scripts) == 8
    for script in scripts:
        assert script.stat().st_mode & 0o100
        subprocess.run(["bash", "-n", script], check=True)
    for name in ("superlink/start.sh", "superlink/flwr.sh", "sites/site-1/start.sh"):
        text = (written / name).read_text()
        for off in (
            "FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1",
        ):  # fmt: skip
            assert off in text


def test_a_script_without_flower_says_what_to_do(written: Path) -> None:
    script = written / "sites/site-1/start.sh"
    done = subprocess.run([script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "POLYRANK_BIN" in done.stderr


def test_units_start_the_scripts_and_parse(written: Path) -> None:
    units = list(written.rglob("*.service"))
    assert len(units) == 5
    for unit in units:
        parsed = configparser.ConfigParser(strict=False)
        parsed.optionxform = str  # type: ignore[assignment]
        parsed.read(unit)
        place = unit.parent.name
        script = "gate.sh" if unit.name == "gate.service" else "start.sh"
        assert parsed["Service"]["ExecStart"] == f"/srv/polyrank/{place}/{script}"
        assert parsed["Service"]["ReadWritePaths"] == f"/srv/polyrank/{place}"
        assert parsed["Service"]["Restart"] == "always"


def test_systemd_accepts_the_units(written: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd")
    for unit in written.rglob("*.service"):
        text = unit.read_text().replace(f"/srv/polyrank/{unit.parent.name}", str(unit.parent))
        here = tmp_path / unit.name
        here.write_text(text.replace("User=polyrank", "User=root"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True
        )
        ours = [line for line in done.stderr.splitlines() if unit.name in line]
        assert not ours


def test_the_app_is_one_that_flower_takes(written: Path) -> None:
    app = written / "superlink/app"
    told = tomllib.loads((app / "pyproject.toml").read_text())
    config = told["tool"]["flwr"]["app"]["config"]
    assert set(config) == {"recipe", "folder", "min-nodes", "deadline"}
    assert config["min-nodes"] == 3
    for part in told["tool"]["flwr"]["app"]["components"].values():
        module, name = part.split(":")
        assert name == "app"
        assert (app / f"{module.replace('.', '/')}.py").exists()


def test_the_recipe_is_the_same_everywhere(written: Path, demo: Recipe) -> None:
    for place in ("superlink", "sites/site-1", "sites/site-3"):
        assert load.load(written / place / "recipe.yaml").recipe == demo


def test_readme_fits_on_a_screen(written: Path) -> None:
    lines = (written / "README.md").read_text().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_nothing_is_overwritten(written: Path, plan: Plan, tmp_path: Path) -> None:
    before = (written / "authority/authority.key").read_bytes()
    with pytest.raises(FederationError, match="not empty; name a new folder"):
        init.write(written, plan)
    assert (written / "authority/authority.key").read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(FederationError, match="not empty"):
        init.write(tmp_path / "file", plan)
    (tmp_path / "empty").mkdir()
    init.write(tmp_path / "empty", plan)


def test_clients_are_spread_over_the_recipe(demo: Recipe) -> None:
    assert list(first_clients(demo, site_names(10)).values()) == [str(i) for i in range(10)]
    assert first_clients(demo, site_names(1)) == {"site-1": "0"}
    with pytest.raises(RecipeError, match="10, but 11 sites"):
        first_clients(demo, site_names(11))
    owners = demo.model_copy(
        update={"data": demo.data.model_copy(update={"partition": "key(hospital)"})}
    )
    with pytest.raises(RecipeError, match="key\\(hospital\\) names clients by the data"):
        first_clients(owners, site_names(3))


@pytest.mark.parametrize("host", ["https://x", "a b", "x/y", "", "-x", "$(reboot)", "x" * 254])
def test_a_host_that_cannot_be_is_refused(host: str) -> None:
    with pytest.raises(FederationError, match="is no host name or address"):
        checked_host(host)
