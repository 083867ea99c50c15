"""The parity automaton, as a dynamic Bayesian network and as a recurrent neural network.

The state is whether the number of ones so far is odd. The transition tables of the dynamic Bayesian
network contain only zeros and ones. In the Elman network, two units compute the Or and the And of
the input and the previous state; the new state is the Or without the And. Both give the same state
for every sequence. The dynamic Bayesian network also accepts uncertain bits, which it marginalises:
if the bits are 1 with probabilities p_t, the number of ones is odd with probability
(1 - prod (1 - 2 p_t)) / 2.
"""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn

STEEP = 20.0


def automaton() -> pgnn.DynamicBayesianNetwork:
    """Return the tables: the state is the exclusive or of the state before and the bit."""
    bit, odd, before = (pgnn.Variable(n, 2) for n in ("bit", "odd", ("odd", -1)))
    xor = [[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]  # state before, bit
    return pgnn.DynamicBayesianNetwork(
        [(("odd", -1), "odd"), ("bit", "odd")],
        {"bit": pgnn.Tabular(bit, [], [0.5, 0.5]), "odd": pgnn.Tabular(odd, [before, bit], xor)},
        initial={"odd": pgnn.Tabular(odd, [bit], [[1.0, 0.0], [0.0, 1.0]])},
    )


class Elman(nn.Module):
    """Two recurrent units, and the log odds of an odd number after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(1, 2, batch_first=True), nn.Linear(2, 2)
        before = torch.tensor([[1.0, -1.0], [1.0, -1.0]]) * STEEP / 2  # (or - and) / 2: the state
        least = STEEP * torch.tensor([-0.5, -1.5])
        numbers = torch.full((2, 1), STEEP), before, least, torch.zeros(2)
        for p, x in zip(self.rnn.parameters(), numbers, strict=True):
            p.data = x
        self.out.weight.data = STEEP / 2 * torch.tensor([[0.0, 0.0], [1.0, -1.0]])
        self.out.bias.data = torch.tensor([0.0, -STEEP / 2])

    def forward(self, bits: Tensor) -> Tensor:
        """Return ``(B, T, 2)`` logits of bits ``(B, T)``."""
        start = torch.full((1, len(bits), self.rnn.hidden_size), -1.0)  # neither Or nor And
        return self.out(self.rnn(bits.float().unsqueeze(-1), start)[0])


def main(argv: list[str] | None = None, steps: int = 8) -> dict[str, float]:
    """Compare both on every sequence, sum doubtful bits out, draw a sequence."""
    args = arguments(__doc__, argv)
    bits = torch.tensor(list(itertools.product([0, 1], repeat=steps)))
    truth, tables = bits.cumsum(1) % 2, automaton()
    states = tables.smooth({"bit": bits.numpy()}, "odd")["odd"].probs[..., 1]
    wired = Elman()(bits).softmax(-1)[..., 1].detach()
    answers = {"tables": states, "recurrent": wired}
    found = {n: float(((p > 0.5) == (truth > 0)).double().mean()) for n, p in answers.items()}
    print(", ".join(f"{n} right in {x:.1%}" for n, x in found.items()))
    doubtful = np.resize([0.1, 0.9, 0.2, 0.3, 0.05, 1.0, 0.0, 0.1], steps)
    soft = np.stack([1 - doubtful, doubtful], 1)
    summed = tables.smooth({"bit": soft}, "odd")["odd"].probs[..., 1].numpy()
    found["doubt"] = float(np.abs(summed - (1 - np.cumprod(1 - 2 * doubtful)) / 2).max())
    print(f"doubtful bits: {summed.round(3)}, {found['doubt']:.1e} from the product")
    figure, axes = plt.subplots(3, 1, figsize=(6, 4), sharex=True)
    row = len(bits) * 3 // 5
    shown = {"bits": bits[row], "odd by the tables": states[row], "of doubtful bits": summed}
    for ax, (name, values) in zip(axes, shown.items(), strict=True):
        ax.step(range(steps), values, where="mid")
        ax.set(ylim=(-0.1, 1.1), ylabel=name)
        ax.yaxis.label.set(rotation=0, ha="right")
    save(figure, args.out / "parity_automaton.png")
    return found


if __name__ == "__main__":
    main()
