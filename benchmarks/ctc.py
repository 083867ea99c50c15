"""CTC: value and gradient of batches, pgnn beside torch's own loss, in CPU time of one core.

``python -m benchmarks.ctc``. Both are given the same scores of a network's last layer, and return
the derivatives by them; ``pgnn`` is ``CTC.log_likelihood``, which is what learning calls, and
``log_prob`` is what a person writes, with reading.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

import pgnn

CASES = [(32, 150, 30, 30), (16, 500, 100, 80), (64, 200, 50, 5)]


def seconds(run: Callable[[], object], rounds: int = 9) -> float:
    """The median CPU time of a call."""
    run()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def contenders(
    model: pgnn.CTC, evidence: object, scores: Tensor, symbols: Tensor, lengths: tuple[Tensor, ...]
) -> list[Callable[[], tuple[Tensor, ...]]]:
    """What gives the derivatives: as learning does, as a person does, and torch's loss."""
    rows = model.read(evidence, {"x": scores.detach()})
    leaf = rows.inputs["x"].requires_grad_()
    value = model.log_likelihood(rows)

    def torch_loss() -> tuple[Tensor, ...]:
        logs = scores.log_softmax(-1).transpose(0, 1)
        return torch.autograd.grad(-ctc_loss(logs, symbols, *lengths, reduction="sum"), scores)

    return [
        lambda: torch.autograd.grad(value().sum(), leaf),
        lambda: torch.autograd.grad(model.log_prob(evidence, inputs={"x": scores}).sum(), scores),
        torch_loss,
    ]


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print("| rows, steps, labels, of a row | pgnn, ms | log_prob, ms | torch, ms | torch / pgnn |")
    print("| --- | --: | --: | --: | --: |")
    for rows, steps, symbols, most in CASES:
        rng = torch.Generator().manual_seed(0)
        scores = torch.randn(rows, steps, symbols + 1, generator=rng, requires_grad=True)
        labels = torch.randint(symbols, (rows, most), generator=rng)
        lengths = torch.full((rows,), steps), torch.full((rows,), most)
        model, evidence = pgnn.CTC(symbols), {"label": pgnn.codes(labels)}
        run = contenders(model, evidence, scores, labels + 1, lengths)
        first, second, third = (f()[0] for f in run)
        assert torch.allclose(first, third, atol=0.02)  # torch sums in single precision
        assert torch.allclose(second, first, atol=1e-5)
        own, whole, other = (1e3 * seconds(f) for f in run)
        print(
            f"| {rows}, {steps}, {symbols}, {most} | {own:.1f} | {whole:.1f} | {other:.1f} | "
            f"{other / own:.1f} |"
        )


if __name__ == "__main__":
    main()
