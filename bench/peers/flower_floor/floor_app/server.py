"""The ServerApp: an array to every node, one back from each, round by round.

As Flower's documentation has it: one record for all nodes, `grid.send_and_receive`. With `pull` it
looks for answers more often than that does.
"""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp


def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    while len(list(grid.get_node_ids())) < int(config["nodes"]):
        time.sleep(0.5)
    nodes, draw = sorted(grid.get_node_ids()), np.random.default_rng(0)
    for number in range(1, int(config["rounds"]) + 1):
        array = draw.integers(256, size=int(config["bytes"]), dtype=np.uint8)
        content = RecordDict({"arrays": ArrayRecord({"array": Array(array)})})
        sent = [
            Message(content, dst_node_id=node, message_type="train", group_id=str(number))
            for node in nodes
        ]
        replies = _exchanged(grid, sent, float(config["pull"]))
        for reply in replies:
            found = reply.content["arrays"]["array"].numpy()
            if not np.array_equal(found, array + 1):
                raise RuntimeError("an array came back as another")
        with Path(str(config["done"])).open("a") as done:
            done.write(f"{number}\n")


def _exchanged(grid: Grid, sent: list[Message], pull: float) -> list[Message]:
    if not pull:
        return list(grid.send_and_receive(sent))
    waiting, replies = set(grid.push_messages(sent)), list[Message]()
    while True:
        some = list(grid.pull_messages(waiting))
        waiting -= {str(reply.metadata.reply_to_message_id) for reply in some}
        replies += some
        if not waiting:
            return replies
        time.sleep(pull)


app = ServerApp()
app.main()(main)
