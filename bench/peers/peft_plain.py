"""Plain PEFT training of one model on the tokens of all clients: the limit for one at a time.

What PEFT's own examples do (https://github.com/huggingface/peft): `get_peft_model`, an optimizer,
a loop over batches. No federation: nothing is sent, copied or averaged. The rank is the mean of
the clients' ranks.
"""

from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from bench.child import Job
from bench.federation import RANKS
from bench.peers.plain import base, batches, fit, with_lora


def start(args: dict[str, Any]) -> Job:
    """One client's batches as a beginning; then a step is all batches of a round."""
    dtype = args["dtype"]
    net = with_lora(base(dtype), round(sum(RANKS) / len(RANKS)))
    each = batches(args)
    some = [batch for own in each for batch in own]
    fit(net, each[0], dtype)
    told = {"samples": len(some) * args["batch"]}

    def counted() -> dict[str, object]:
        counter = FlopCounterMode(display=False)
        with counter:
            fit(net, some, dtype)
        return {**told, "flops": counter.get_total_flops()}

    if args.get("count"):
        return Job(counted, lambda found: found)
    return Job(lambda: fit(net, some, dtype), lambda _: {**told})
