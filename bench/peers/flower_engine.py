"""Flower's simulation engine (Ray) with PEFT.

As Flower's example for federated LoRA does it (examples/flowertune-llm of
https://github.com/adap/flower): for every message the client loads the model, puts the adapter
that came into it, trains, and answers with the adapter's arrays. With args["keep"] a process of
the engine loads the model once and keeps it, the best that can be done with it. Each client has
one CPU, so that as many train at once as there are threads in this run.

The ServerApp runs beside the engine's loop and does a round when it is told to.
"""

import os
import threading
from functools import partial
from queue import Queue
from typing import Any

import psutil
import ray  # noqa: F401  (the engine's; a federation over a network needs none of it)
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from bench.child import Job
from bench.peers.plain import base, batches, fit, rank_of, with_lora

_held: dict[str, Any] = {}  # in a process of the engine: the base model and the texts


def start(args: dict[str, Any]) -> Job:
    """The engine, and one client as a beginning; then a step is a round of messages."""
    asked: Queue[int] = Queue()
    answered: Queue[Any] = Queue()
    client, server = ClientApp(), ServerApp()
    client.train()(partial(_train, args))
    server.main()(partial(_serve, args, asked, answered))
    engine = threading.Thread(target=_engine, args=(args, client, server, answered), daemon=True)
    engine.start()

    def round_of(clients: int) -> int:
        asked.put(clients)
        done = answered.get()
        if isinstance(done, BaseException):
            raise done
        return int(done)

    round_of(args["threads"])  # one client in each of the engine's processes
    return Job(lambda: round_of(args["active"]), partial(_told, args))


def _engine(
    args: dict[str, Any], client: ClientApp, server: ServerApp, answered: "Queue[Any]"
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # for the engine's processes: one CPU each
    resources: Any = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"num_cpus": args["threads"], "logging_level": "ERROR"},
    }
    try:
        run_simulation(server, client, args["active"], backend_config=resources)
    except BaseException as error:  # the thread that waits for an answer raises it
        answered.put(error)


def _serve(
    args: dict[str, Any], asked: "Queue[int]", answered: "Queue[Any]", grid: Grid, context: Context
) -> None:
    """A round at a time: to every client its adapter, from every client what it trained."""
    starts = {}
    for client in range(min(args["active"], 5)):
        state = get_peft_model_state_dict(with_lora(base(args["dtype"]), rank_of(client)))
        starts[rank_of(client)] = ArrayRecord(dict(state))
    nodes = sorted(grid.get_node_ids())
    while clients := asked.get():
        some = [
            Message(
                RecordDict({"arrays": starts[rank_of(i)], "config": ConfigRecord({"client": i})}),
                dst_node_id=node, message_type="train", group_id="round",
            )
            for i, node in enumerate(nodes[:clients])
        ]  # fmt: skip
        replies = list(grid.send_and_receive(some))
        failed = [reply.error for reply in replies if reply.has_error()]
        answered.put(RuntimeError(str(failed[0])) if failed else len(replies))


def _train(args: dict[str, Any], message: Message, context: Context) -> Message:
    """A client: model, adapter, local training, adapter."""
    torch.set_num_threads(1)
    client, dtype = int(message.content["config"]["client"]), args["dtype"]
    if "batches" not in _held:
        _held["batches"] = batches(args)  # texts are tokenised once
    if args["keep"]:
        net = _held.setdefault(str(rank_of(client)), None) or with_lora(
            base(dtype), rank_of(client)
        )
        _held[str(rank_of(client))] = net
    else:
        net = with_lora(base(dtype), rank_of(client))
    set_peft_model_state_dict(net, message.content["arrays"].to_torch_state_dict())
    fit(net, _held["batches"][client], dtype)
    state = get_peft_model_state_dict(net)
    metrics = MetricRecord({"num-examples": args["steps"] * args["batch"]})
    return Message(
        RecordDict({"arrays": ArrayRecord(dict(state)), "metrics": metrics}), reply_to=message
    )


def _told(args: dict[str, Any], replies: int) -> dict[str, object]:
    """The samples, and the memory of all of the engine's processes."""
    me = psutil.Process()
    every = [me, *me.children(recursive=True)]
    resident = sum(p.memory_info().rss for p in every if p.is_running())
    return {"samples": replies * args["steps"] * args["batch"], "resident": resident}
