"""A deep copy of the model for each client, as FLoRA's code simulates.

main.py of https://github.com/ATP-1010/FederatedLLM, for every client of a round:
`model_client = copy.deepcopy(model)`, `get_peft_model(model_client, config)` at its own rank, local
training, and the adapter's state dict is taken. Its Trainer and its files on disk are left out, so
this is faster than the original.
"""

import copy
from typing import Any

from peft import get_peft_model_state_dict

from bench.child import Job
from bench.peers.plain import Batch, base, batches, fit, rank_of, with_lora


def start(args: dict[str, Any]) -> Job:
    """One client as a beginning; then a step is a round of clients, one after another."""
    dtype = args["dtype"]
    model = base(dtype)
    each = batches(args)

    def trained(client: int, own: list[Batch]) -> dict[str, Any]:
        net = with_lora(copy.deepcopy(model), rank_of(client))
        fit(net, own, dtype)
        return dict(get_peft_model_state_dict(net))

    trained(0, each[0])
    samples = sum(len(own) for own in each) * args["batch"]
    return Job(
        lambda: [trained(client, own) for client, own in enumerate(each)],
        lambda _: {"samples": samples},
    )
