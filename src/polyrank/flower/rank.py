"""A ClientApp's answer to who asks for its rank; nothing heavier than Flower is imported."""

from flwr.app import ConfigRecord, Context, Message, RecordDict

CONFIG, RANK = "config", "rank"


def state_rank(message: Message, context: Context) -> Message:
    """`app.query()(state_rank)`: the `rank` of the node config."""
    rank = ConfigRecord({RANK: int(str(context.node_config[RANK]))})
    return Message(RecordDict({CONFIG: rank}), reply_to=message)
