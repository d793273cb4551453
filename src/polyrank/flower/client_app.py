"""The ClientApp: passes a message on to the site's trainer, and its answer back.

Flower starts a new process for every message: nothing heavier than Flower itself may be imported.
"""

from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from polyrank.errors import PolyrankError
from polyrank.flower import link, payload, warm
from polyrank.flower.site import SIMULATED, Site, site, told


def query(message: Message, context: Context) -> Message:
    """Who this site is."""
    return _answered("query", message, context)


def train(message: Message, context: Context) -> Message:
    """One round at this site."""
    return _answered("train", message, context)


def _answered(kind: str, message: Message, context: Context) -> Message:
    try:
        here = site(context.node_config)
        facts, data = payload.taken(message.content)
        header = {"kind": kind, "site": told(here), "facts": facts}
        if set(context.node_config) >= SIMULATED:
            reply, answer = _here(here, header, data)
        else:
            reply, answer = link.ask(here.home, header, data)
            warm.begin(here.home)
    except PolyrankError as error:
        reply, answer = {"failure": str(error)}, b""
    return Message(payload.packed(reply, answer), reply_to=message)


def _here(here: Site, header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """In this process: those of Flower's simulation engine live on."""
    from polyrank.flower.node import NODE

    link.private(here.home)
    return NODE.answer(header, data)


app = ClientApp()
app.query()(query)
app.train()(train)
