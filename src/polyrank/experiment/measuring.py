"""What is measured on a run: the global model, what clients hold, some before and after a round."""

from collections.abc import Sequence
from dataclasses import replace

from polyrank.client.group import TOKENS
from polyrank.client.score import Score, average, score, score_all
from polyrank.engine.simulate import Simulator
from polyrank.evaluate import score_adapter
from polyrank.experiment.run import Run
from polyrank.experiment.setup import text_length
from polyrank.lora.factor import Adapter
from polyrank.messages import Client, Download
from polyrank.seeds import fingerprint
from polyrank.server.loop import Reply, participants, present
from polyrank.server.sampling import drawn
from polyrank.wire.pack import pack


def probe(run: Run, round: int, client: Client) -> float | None:
    """The metric of the model on the bench, just trained by this client, if it is measured.

    Measured just before and after the aggregation are the highest ranks of the round.
    """
    if run.probed[0] != round:
        taking_part = participants(run.plan, run.federation, round)
        highest = sorted(taking_part, key=lambda c: -c.rank)[: run.recipe.evaluation.probe]
        run.probed = round, frozenset(c.id for c in highest)
    if client.id not in run.probed[1]:
        return None
    batch = run.recipe.evaluation.batch
    return _value(run, score(run.setup.bench, run.setup.test, batch, _some(run)))


def after(run: Run, replies: Sequence[Reply]) -> list[dict[str, object]]:
    """Clients' models in the metric just before the aggregation, and as they are next after it."""
    if run.simulator is None:
        return []
    clients = [present(run.federation, r.client) for r in replies]
    return [
        {"id": c.id, "rank": r.client.rank, "before": r.before, "after": _value(run, after)}
        for r, c, after in zip(
            replies, clients, _scores(run, run.simulator, clients, _some(run)), strict=True
        )
    ]


def _value(run: Run, score: Score) -> float:
    return score.accuracy if run.setup.bench.objective.metric == "accuracy" else score.loss


def _some(run: Run) -> range:
    return range(min(run.recipe.evaluation.probe_examples, len(run.setup.test)))


def _sent(run: Run, client: Client) -> Download:
    sent = run.plan.algorithm.send(run.federation.state, client)
    return replace(sent, dense=run.federation.dense)


def evaluate(run: Run) -> Score | None:
    """The score of the global model; of personal models, the mean over the round's clients."""
    if run.personal and run.latest:
        if run.simulator is None:
            return None
        return average(list(held_by(run, run.simulator, run.latest).values()))
    adapter = Adapter(run.plan.algorithm.read(run.federation.state), run.federation.dense)
    return score_adapter(run.setup.bench, adapter, run.setup.test, run.recipe.evaluation.batch)


def held_by(run: Run, simulator: Simulator, clients: Sequence[Client]) -> dict[Client, Score]:
    """The score of the model that each client would hold next; equal models are scored once.

    Of more clients than the recipe has measured, some are drawn.
    """
    recipe = run.recipe
    some = drawn(clients, recipe.evaluation.clients, recipe.seed, run.federation.round)
    keys = {client: _model_key(run, simulator, present(run.federation, client)) for client in some}
    first = {key: client for client, key in reversed(keys.items())}
    # Those on one base side by side, then by rank: they are measured at once.
    order = sorted(first, key=lambda key: (_base(simulator, first[key]), first[key].rank))
    distinct = [present(run.federation, first[key]) for key in order]
    scores = dict(zip(order, _scores(run, simulator, distinct), strict=True))
    return {present(run.federation, client): scores[key] for client, key in keys.items()}


def _model_key(run: Run, simulator: Simulator, client: Client) -> str:
    """The same for clients that would hold the same model."""
    message = pack(replace(_sent(run, client), fresh=None))
    return _base(simulator, client) + fingerprint(message)


def _base(simulator: Simulator, client: Client) -> str:
    """The name of what the client keeps."""
    return simulator.private.told(client.id)


def _scores(
    run: Run, simulator: Simulator, clients: Sequence[Client], indices: range | None = None
) -> list[Score]:
    """The score of what each client would hold next, as many at once as pay."""
    found: dict[int, Score] = {}
    recipe, bench, test = run.recipe, run.setup.bench, run.setup.test
    batch = recipe.evaluation.batch
    size = max(1, min(simulator.group, TOKENS // (batch * text_length(recipe))))
    for first in range(0, len(clients), size):
        sent = [(c, _sent(run, c)) for c in clients[first : first + size]]
        for places in simulator.hold(run.federation.round + 1, sent):
            own = score_all(bench, test, batch, len(places), indices)
            found |= {first + place: one for place, one in zip(places, own, strict=True)}
    return [found[i] for i in range(len(clients))]
