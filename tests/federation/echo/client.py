"""Answers with the sum of the array that it got, and what its node config calls it."""

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    total = int(message.content["array"]["x"].numpy().sum())
    said = ConfigRecord({"site": str(context.node_config["site"]), "sum": total})
    return Message(RecordDict({"said": said}), reply_to=message)
