"""The server's part of a run over Flower: that of a local run, with nodes as its clients."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from flwr.serverapp import Grid

from polyrank import algorithms
from polyrank.errors import RecipeError, StorageError
from polyrank.experiment import single
from polyrank.experiment.events import Replied
from polyrank.experiment.folder import Folder, create, opened
from polyrank.experiment.ready import Who, planned, prepared
from polyrank.experiment.run import Run
from polyrank.experiment.setup import Setup, roster
from polyrank.flower import status
from polyrank.flower.alone import alone
from polyrank.flower.network import Network
from polyrank.flower.ranking import Ranking
from polyrank.flower.settings import Settings
from polyrank.flower.stated import Stated
from polyrank.flower.watching import Watching
from polyrank.messages import Client
from polyrank.recipe import Recipe
from polyrank.recipe.load import digest
from polyrank.report import records
from polyrank.seeds import fingerprint
from polyrank.server.loop import Federation, Plan

LOG = logging.getLogger("flwr")  # what `flwr run --stream` shows
_PATIENCE = 15.0  # seconds: the run of a SuperLink that was killed ends a little later


def serve(grid: Grid, asked: Settings) -> None:
    """Do what is left of a run with the nodes of a federation.

    Raises:
        PolyrankError: whatever is wrong with the recipe, the folder or the sites; finished rounds
            stay, and the same command goes on from there.
    """
    recipe, path = asked.recipe, asked.folder
    folder = opened(path) if Folder(path).recipe.exists() else None
    if folder is not None and folder.complete:
        LOG.info("%s is complete; another folder starts another run", path)
        return
    setup = prepared(recipe)
    folder = folder or create(path, recipe)
    with alone(path / status.LOCK, _PATIENCE) as mine:
        if not mine:
            raise StorageError(
                f"another process is at work on the run in {path}; wait for its end, or end it "
                "(flwr list, flwr stop)"
            )
        _serve(grid, asked, setup, folder)


def _serve(grid: Grid, asked: Settings, setup: Setup, folder: Folder) -> None:
    recipe, path = asked.recipe, folder.path
    run = fingerprint(f"{digest(recipe)} {path}".encode())
    network = Network(grid, recipe, setup, run, asked.deadline, asked.least, LOG.warning)
    watching = Watching(path, recipe.rounds, network, LOG.info)

    def watch(event: object) -> None:
        if isinstance(event, Replied):
            client = event.reply.client
            network.ranks[client.id] = client.rank
            if event.reply.failure is None:
                network.counted[client.id] = event.round
        watching.hear(event)

    watching.wait()
    label, begin = recipe.algorithm.name, partial(_begin, network, folder)
    single.go(recipe, label, folder, watch, setup, begin)


def _begin(network: Network, folder: Folder, recipe: Recipe, setup: Setup, private: Path) -> Run:
    """A run before its first round, or before the one that its checkpoint comes to."""
    who, elsewhere = _resumed(network, folder) if folder.checkpoint.exists() else _met(network)
    setup = replace(setup, elsewhere=elsewhere)
    plan, idle = planned(recipe, setup, who)
    network.allowed = partial(_refused, recipe, plan)
    network.answer = partial(_answered, network, Ranking(recipe, setup), plan)
    federation = Federation(plan.algorithm.init(plan.template, recipe.seed), setup.dense)
    return Run(recipe, setup, plan._replace(meet=network.meet), network.exchange, federation, idle)


Counts = dict[str, tuple[int, ...]]  # examples by class, of clients whose data is not here


def _met(network: Network) -> tuple[Who, Counts]:
    """Who takes part: sites with data of their own, or the clients of the recipe's partition."""
    network.meet(1)
    setup = network.setup
    stated = [s for _, s in sorted(network.nodes.items())]
    for id, rank in Ranking(network.recipe, setup).first(stated).items():
        one = network.nodes[id]
        network.nodes[id] = one._replace(rank=rank)
        LOG.info("%s: rank %d by lora.ranks (%d examples, %d MiB)",
                 one.site, rank, one.examples, one.memory)  # fmt: skip
    nodes = network.nodes
    own = {id: s for id, s in sorted(nodes.items()) if s.own}
    if own and len(own) < len(nodes):
        other = next(s.site for s in nodes.values() if not s.own)
        raise RecipeError(
            "data", f"{', '.join(own)} have data of their own, but {other} is a client of the "
            "recipe's; give every node either data or client",
        )  # fmt: skip
    if own:
        clients = [Client(id, s.rank or 0, examples=s.examples) for id, s in own.items()]
        return (clients, {}), {id: s.counts for id, s in own.items()}
    clients, idle = roster(network.recipe, setup)
    ranks = {c.id: (nodes[c.id].rank if c.id in nodes else None) or c.rank for c in clients}
    return ([replace(c, rank=ranks[c.id]) for c in clients], idle), {}


def _resumed(network: Network, folder: Folder) -> tuple[Who, Counts]:
    """Who took part from the beginning; and in the network, whose upload counted when."""
    past = records.load(folder.records)
    for record in past.rounds:
        network.counted |= {c["id"]: record["round"] for c in record["clients"]}
        network.ranks |= {c["id"]: c["rank"] for c in record["clients"]}
    first = past.run["clients"]
    clients = [Client(c["id"], c["rank"], examples=c["examples"]) for c in first]
    idle = {i["id"]: i["reason"] for i in past.run.get("idle", [])}
    here = network.setup.parts
    return (clients, idle), {c["id"]: tuple(c["labels"]) for c in first if c["id"] not in here}


def _answered(network: Network, ranking: Ranking, plan: Plan, one: Stated) -> int | None:
    """The rank of a node that comes later, or comes back, and states none."""
    most = next(iter(plan.template.values())).rank
    return ranking.later(one, {c.id: c.rank for c in plan.clients}, network.ranks, most)


def _refused(recipe: Recipe, plan: Plan, rank: int) -> str | None:
    """Why a node of this rank cannot join; None if it can."""
    most = next(iter(plan.template.values())).rank
    if not algorithms.about(recipe.algorithm.name).mixed and rank != plan.clients[0].rank:
        return f"but {recipe.algorithm.name} needs equal ranks: {plan.clients[0].rank}"
    return f"above {most}, the largest when the run began" if rank > most else None
