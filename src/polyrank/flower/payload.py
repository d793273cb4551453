"""What our messages look like to Flower: some facts, and bytes in one array.

One array, since Flower makes requests for each. Its bytes are ours: `numpy.load` never sees them.
"""

from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from polyrank.errors import MessageError

Fact = str | int | float
FACTS, DATA = "facts", "data"
WORDS = 1 << 20  # letters that a node may state
KIND = ("uint8", "polyrank")  # dtype and stype of the array


def packed(facts: Mapping[str, Fact], data: bytes = b"") -> RecordDict:
    """Facts and bytes as Flower's records."""
    content = RecordDict({FACTS: ConfigRecord(dict(facts))})
    if data:
        dtype, stype = KIND
        array = Array(dtype=dtype, shape=(len(data),), stype=stype, data=data)
        content[DATA] = ArrayRecord({DATA: array})
    return content


def taken(content: RecordDict, most: int | None = None) -> tuple[dict[str, Fact], bytes]:
    """The facts and bytes that `packed` made records of.

    Args:
        content: what arrived.
        most: bytes at most; None where the other side is trusted with that.

    Raises:
        MessageError: they are no such records, or too many bytes.
    """
    facts, arrays = content.get(FACTS), content.get(DATA)
    if not isinstance(facts, ConfigRecord) or not set(content) <= {FACTS, DATA}:
        raise MessageError(f"not a message of this package: holds {', '.join(map(str, content))}")
    told = dict(facts)
    if not all(isinstance(value, str | int | float) for value in told.values()):
        raise MessageError("not a message of this package: a fact is no text or number")
    if most is not None and sum(len(v) for v in told.values() if isinstance(v, str)) > WORDS:
        raise MessageError(f"its facts are more than {WORDS} letters")
    if arrays is None:
        return told, b""
    if not isinstance(arrays, ArrayRecord) or list(arrays) != [DATA]:
        raise MessageError("not a message of this package: not one array")
    array = arrays[DATA]
    if (array.dtype, array.stype) != KIND or array.shape != (len(array.data),):
        raise MessageError(f"not bytes: an array of {array.dtype} {array.shape} ({array.stype})")
    if most is not None and len(array.data) > most:
        raise MessageError(f"{len(array.data)} bytes, where at most {most} can be")
    return told, array.data
