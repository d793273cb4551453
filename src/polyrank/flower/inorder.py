"""Answers in the order in which they were asked for, whichever comes first.

Sums of floating point numbers depend on their order: a round must not depend on who is quick.
An answer that comes before its turn waits on disk, so that memory stays flat.
"""

from collections.abc import Iterable, Iterator, Sequence
from tempfile import TemporaryFile
from typing import IO

from polyrank.flower.post import Answer


def in_order(
    ids: Sequence[str], answers: Iterable[tuple[str, Answer]]
) -> Iterator[tuple[str, Answer | None]]:
    """Each id, once, with its answer; None where there is none.

    Args:
        ids: of the messages, in their order.
        answers: as they come; each id once at most.
    """
    with TemporaryFile() as aside:
        early, turn = dict[str, tuple[Answer, int, int]](), 0
        for id, answer in answers:
            if id != ids[turn]:
                early[id] = _put(aside, answer)
                continue
            yield id, answer
            del answer  # or it were in memory beside the next one
            turn += 1
            while turn < len(ids) and ids[turn] in early:
                yield ids[turn], _get(aside, *early.pop(ids[turn]))
                turn += 1
        for id in ids[turn:]:
            yield id, _get(aside, *early.pop(id)) if id in early else None


def _put(aside: IO[bytes], answer: Answer) -> tuple[Answer, int, int]:
    if isinstance(answer, Exception):
        return answer, 0, 0
    facts, data = answer
    start = aside.seek(0, 2)
    aside.write(data)
    return (facts, b""), start, len(data)


def _get(aside: IO[bytes], answer: Answer, start: int, length: int) -> Answer:
    if isinstance(answer, Exception):
        return answer
    aside.seek(start)
    return answer[0], aside.read(length)
