"""Answers from nodes: how many of them are in memory at once."""

import weakref
from collections.abc import Iterable
from itertools import starmap

import pytest
from flwr.app import Message, RecordDict

from polyrank.flower import payload, post
from polyrank.flower.inorder import in_order
from tests.flower.fake import FakeGrid, Nodes


class Lazy(FakeGrid):
    """A grid whose answers come to be when they are asked for; it counts those still in use."""

    def __init__(self) -> None:
        super().__init__(Nodes({}))
        self.together: list[int] = []
        self.left_over: list[int] = []
        self._made: list[weakref.ref[RecordDict]] = []

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        self.left_over.append(sum(made() is not None for made in self._made))
        answers = [self._answer(id) for id in ids]
        self.together.append(len(answers))
        return answers

    def _answer(self, id: str) -> Message:
        asked = Message(RecordDict(), dst_node_id=7, message_type=post.TRAIN, ttl=60.0, group_id="")
        asked.metadata.__dict__["_message_id"] = id
        content = payload.packed({"id": id}, id.encode())
        self._made.append(weakref.ref(content))
        answer = Message(content, reply_to=asked)
        answer.metadata.__dict__["_src_node_id"] = 7
        return answer


@pytest.mark.parametrize(
    ("most", "together"), [(100, [9]), (post.ROOM // 4, [4, 4, 1]), (2 * post.ROOM, 9 * [1])]
)
def test_as_many_as_fit_into_memory_and_none_beside_the_next(
    most: int, together: list[int]
) -> None:
    ids = [f"message-{i}" for i in range(9)]
    grid = Lazy()
    pulled = post.pull(
        grid, dict.fromkeys(ids, post.Sent(7, most)), 5.0, pytest.fail, payload.taken
    )
    seen = list(starmap(lambda id, answer: answer[1].decode(), in_order(ids, pulled)))
    assert seen == ids
    assert grid.together == together
    assert grid.left_over == [0] * len(together)
