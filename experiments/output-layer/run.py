"""What the output layer costs at every token, and at those to be learned alone.

    .venv/bin/python experiments/output-layer/run.py

A Llama of random weights with 32,000 words; a step (forward and backward) over 8 texts of 256
tokens, of which a share is to be learned. Each way in a process of its own, in turn; the best of
five steps.
"""

import subprocess
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from polyrank.client.room import peak
from polyrank.client.writing import Writing, at_marks, chosen
from polyrank.data.batches import Batch

ROWS, LENGTH, WORDS, STEPS, TURNS = 8, 256, 32_000, 5, 3


def measure(sparing: bool, share: float) -> tuple[float, float]:
    """(seconds of a step, MB of the process at its fullest)."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=256, intermediate_size=1024, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    net = LlamaForCausalLM(config).requires_grad_(False)
    for layer in net.model.layers:
        layer.self_attn.q_proj.requires_grad_(True)  # in the place of factors
    ids = torch.randint(1, WORDS, (ROWS, LENGTH))
    ones, first = torch.ones_like(ids), torch.zeros(ROWS, dtype=torch.int64)
    counted = (torch.arange(LENGTH) >= (1 - share) * LENGTH).repeat(ROWS, 1)
    batch = Batch(ids, ones, first, first, counted)
    times = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        if sparing:
            out = at_marks(net, batch).float()
        else:
            out = chosen(net(input_ids=ids, attention_mask=ones).logits.float(), batch)
        torch.autograd.backward(Writing(()).losses(out, batch)[0].sum())
        times.append(time.perf_counter() - begun)
    return min(times), peak() / 1e6


def main() -> None:
    print("share learned  seconds all  marked  times    MB all  marked")
    for share in (0.1, 0.5, 1.0):
        found: dict[str, list[tuple[float, float]]] = {"0": [], "1": []}
        for _ in range(TURNS):
            for way, told in found.items():
                command = [sys.executable, __file__, way, str(share)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, size = map(float, done.stdout.split())
                told.append((seconds, size))
        (before, much), (after, less) = (map(min, zip(*t, strict=True)) for t in found.values())
        times = f"{before:11.2f}  {after:6.2f}  {before / after:4.2f}x"
        print(f"{share:13.0%}  {times}  {much:8.0f}  {less:6.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*measure(sys.argv[1] == "1", float(sys.argv[2])))
    else:
        main()
