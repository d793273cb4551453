"""The factors a client's round begins with."""

from polyrank.lora.factor import Factors
from polyrank.lora.start import fresh
from polyrank.messages import Client, Download


def begin(download: Download, client: Client, template: Factors) -> Factors:
    """The factors a client trains: those it was sent, or those it draws from the seed it was sent.

    Args:
        download: what the server sent.
        client: whose rank the drawn factors have.
        template: one factor per layer of the client's own model, for shapes and dtype.
    """
    if download.fresh is None:
        return download.start
    return {n: fresh(f, client.rank, download.fresh, n) for n, f in template.items()}
