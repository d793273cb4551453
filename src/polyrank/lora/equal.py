"""Some averages exist for equal ranks only: who sends another rank is refused by name."""

from polyrank.errors import RankError
from polyrank.lora.factor import Factors


def check_equal(algorithm: str, client: str, sent: Factors, held: Factors) -> None:
    """Whether a client's factors have the federation's rank.

    Args:
        algorithm: who cannot average others.
        client: who sent them.
        sent: its factors, or cores.
        held: the server's, by layer.

    Raises:
        RankError: a layer has another rank.
    """
    for name, f in sent.items():
        if f.rank != held[name].rank:
            raise RankError(
                f"{algorithm} averages equal ranks only: client {client!r} sent rank {f.rank} "
                f"for {name}, the federation has {held[name].rank}; use replicate"
            )
