"""A federation in this process: Flower's grid, with every node's work done by a call."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from polyrank.errors import PolyrankError
from polyrank.flower import payload
from polyrank.flower.node import Node
from polyrank.flower.site import site, told


class Nodes:
    """What a grid reaches: nodes by id, each with a config."""

    def __init__(self, configs: Mapping[int, Mapping[str, Any]]) -> None:
        self.configs = {id: dict(config) for id, config in configs.items()}
        self.held = {id: Node() for id in configs}

    def answer(self, message: Message) -> Message:
        """As the client app does, but for the socket and the process behind it."""
        node = message.metadata.dst_node_id
        try:
            here = site(self.configs[node])
            facts, data = payload.taken(message.content)
            kind = message.metadata.message_type
            header = {"kind": kind, "site": told(here), "facts": facts}
            reply, out = self.held[node].answer(header, data)
        except PolyrankError as error:
            reply, out = {"failure": str(error)}, b""
        answer = Message(payload.packed(reply, out), reply_to=message)
        answer.metadata.__dict__["_src_node_id"] = node
        return answer


Change = Callable[[Message, Message], list[Message]]  # what was sent, its answer -> what arrives


class FakeGrid(Grid):
    """Flower's grid, as far as it is used."""

    def __init__(self, nodes: Nodes, change: Change = lambda sent, answer: [answer]) -> None:
        self.nodes, self.change = nodes, change
        self.mail: dict[str, list[Message]] = {}
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = (
            1  # what every message is made with
        )
        self.count = 0

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self) -> object:
        raise NotImplementedError

    def create_message(self, *args: object, **more: object) -> Message:
        raise NotImplementedError

    def send_and_receive(self, messages: object, **more: object) -> list[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.nodes.configs)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self.count += 1
            id = f"message-{self.count}"
            message.metadata.__dict__["_message_id"] = id
            self.mail[id] = self.change(message, self.nodes.answer(message))
            ids.append(id)
        return ids

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        return [message for id in ids for message in self.mail.pop(id, [])]


def configs(home: Path, ids: Iterable[str]) -> dict[int, dict[str, Any]]:
    """Node configs for these clients of a recipe's partition."""
    return {
        100 + i: {"site": f"site-{i}", "home": str(home / f"site-{i}"), "client": id}
        for i, id in enumerate(ids)
    }


def failing(sent: Message, reason: str) -> Message:
    """What Flower answers in the place of a node that failed."""
    return Message(Error(2, reason), reply_to=sent)


def context(config: Mapping[str, Any]) -> Context:
    """What an app is told beside a message."""
    return Context(1, 1, {}, RecordDict(), dict(config))
