"""The ClientApp: the array comes back, changed by one, so that it has to travel."""

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp


def train(message: Message, context: Context) -> Message:
    array = message.content["arrays"]["array"].numpy()
    arrays = ArrayRecord({"array": Array(array + 1)})
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


app = ClientApp()
app.train()(train)
