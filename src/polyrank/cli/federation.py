"""The commands for people who deploy: `polyrank federation init`, `up` and `status`."""

import time
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.live import Live

from polyrank.cli.base import app, fail, located, out, read, say
from polyrank.cli.experiments import terminable

federation = typer.Typer(
    help="The same recipe across machines, on Flower.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(federation, name="federation")

Sites = Annotated[int, typer.Option(min=1, max=1000, help="How many sites.")]
Recipe = Annotated[str, typer.Option(help="A recipe's YAML file, or a bundled one.")]
Words = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Argument(
        metavar="[DIR] [KEY=VALUE]...", help="A new folder; recipe keys to change: rounds=5."
    ),
]


@federation.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change: rounds=5."),
    ] = None,
    sites: Sites = 3,
    host: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A name or address of the server; sites call the first one."),
    ] = None,
    recipe: Recipe = "demo",
    port: Annotated[int, typer.Option(min=1, max=65534, help="The server's port.")] = 8000,
) -> None:
    """Write keys, scripts and units for a server and sites."""
    from polyrank.federation import init, up
    from polyrank.federation.plan import LOOPBACK, Plan, checked_host, first_clients, site_names

    up.check_flower()
    hosts = tuple(map(checked_host, host or LOOPBACK[1:]))
    names, loaded = site_names(sites), read(recipe, overrides)
    ports = {name: 9095 + i for i, name in enumerate(names)}  # apart, if on one machine
    with located(loaded):
        clients = first_clients(loaded.recipe, names)
        init.write(folder, Plan(loaded.recipe, clients, hosts, port, port + 1, ports))
    say(f"written: {folder}; go on with {folder / 'README.md'}")


@federation.command()
def up(
    words: Words = None,
    local: Annotated[int, typer.Option(min=1, max=16, help="Sites on this machine.")] = 3,
    recipe: Recipe = "demo",
) -> None:
    """Run a recipe on a server and sites on this machine."""
    from polyrank.cli.show import Screen
    from polyrank.federation import up
    from polyrank.federation.plan import LOOPBACK, Plan, brief, first_clients, site_names

    up.check_flower()
    folders, overrides = _split(words or [])
    loaded = read(recipe, [*brief(recipe, local), *overrides])
    asked = loaded.recipe
    folder = folders[0] if folders else asked.output.dir / f"{asked.name}-federation"
    names, (port, *ports) = site_names(local), up.free_ports(local + 1)
    with located(loaded), terminable(), Screen(out) as screen:
        clients = first_clients(asked, names)
        own = dict(zip(names, ports, strict=True))
        plan = Plan(asked, clients, LOOPBACK[1:], port, port, own)
        done = up.local(folder, plan, screen.say, screen.watch)
    _show(done.path)
    say(f"report:  {done.report}")
    say(f"adapter: {done.adapter}")


@federation.command()
def status(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="A run folder, or what init or up wrote.")
    ] = Path(),
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
) -> None:
    """Show sites, round, traffic and the estimated end."""
    from polyrank.cli.sites import pictured
    from polyrank.federation.status import run_folder, view

    place = run_folder(folder)
    if once:
        _show(place)
        return
    with located(None), Live(console=out, auto_refresh=False) as live:
        while True:
            now = view(place)
            live.update(pictured(now, time.time()), refresh=True)
            if now.complete:
                return
            time.sleep(2)


def _show(folder: Path) -> None:
    from polyrank.cli.sites import pictured
    from polyrank.federation.status import view

    out.print(pictured(view(folder), time.time()))


def _split(words: list[str]) -> tuple[list[Path], list[str]]:
    """What names a folder, and what changes a recipe."""
    folders = [Path(word) for word in words if "=" not in word]
    if len(folders) > 1:
        fail(f"{folders[1]} is a second folder; name one, and give recipe keys as key=value")
    return folders, [word for word in words if "=" in word]
