"""Distributions of the next value of a variable given a hidden state."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.piece import Listed, Restorable
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number
from pgnn.neural.attention import log_weights

NOT_A_NUMBER = "the network returns NaN; check its parameters, or fit the model again"
"""Message about a network with invalid parameters."""


class Memory(NamedTuple):
    """Encoded input sequences, for the attention of a decoder.

    Attributes:
        values: ``(B, S, M)`` encoded steps.
        inside: ``(B, S)`` mask of valid steps.
    """

    values: Tensor
    inside: Tensor


class OutputHead(Listed, Restorable):
    """The distribution of a variable at a step, given a hidden state.

    Args:
        variable: The variable, an array over the axis ``"T"``.
        hidden: Size of the hidden states.

    Attributes:
        variable: The variable, an array over the axis ``"T"``.
        width: Number of features of an embedded value, as input of the next hidden state.
    """

    variable: Variable
    width: int

    def __init__(self, variable: Variable, hidden: int) -> None:
        super().__init__()
        if variable.shape[:1] != (AXIS,):
            raise ModelError(
                f"{variable.name!r} must have a value at each step, as in "
                f"Variable({variable.name!r}, ..., ({AXIS!r},)), got shape {variable.shape}"
            )
        self.variable, self.hidden = variable, whole_number("hidden", hidden, 1, ModelError)

    @abstractmethod
    def embed(self, values: Tensor, memory: Memory | None) -> Tensor:
        """Return ``(B, T, width)`` features of values ``(B, T, *event)``."""

    @abstractmethod
    def log_prob(self, hidden: Tensor, values: Tensor, memory: Memory | None) -> Tensor:
        """Return ``(B, T)`` log probabilities of values given hidden states ``(B, T, H)``."""

    @abstractmethod
    def draw(self, hidden: Tensor, memory: Memory | None, rng: torch.Generator) -> Tensor:
        """Return values ``(B, *event)`` drawn given hidden states ``(B, H)``."""


class DiscreteHead(OutputHead):
    """The distribution of a discrete variable."""

    @abstractmethod
    def log_probs(self, hidden: Tensor, memory: Memory | None) -> Tensor:
        """Return ``(B, T, K)`` log probabilities of the states."""

    def log_prob(self, hidden: Tensor, values: Tensor, memory: Memory | None) -> Tensor:
        """See the base class; values are indices of states."""
        logs = self.log_probs(hidden, memory)
        return logs.gather(-1, values.unsqueeze(-1)).squeeze(-1)

    def draw(self, hidden: Tensor, memory: Memory | None, rng: torch.Generator) -> Tensor:
        """See the base class."""
        probs = self.log_probs(hidden[:, None], memory)[:, 0].exp()
        return drawn(probs, rng)


class CategoricalHead(DiscreteHead):
    r"""A softmax over the states, :math:`p(y = k \mid h) \propto e^{w_k^\top h + b_k}`.

    Args:
        variable: The variable.
        hidden: Size of the hidden states.
        width: Size of the embedding of a state.
    """

    def __init__(self, variable: Variable, hidden: int, width: int) -> None:
        super().__init__(variable, hidden)
        self.width = width = whole_number("width", width, 1, ModelError)
        self.embedding = nn.Embedding(variable.num_states, width)
        self.out = nn.Linear(hidden, variable.num_states)

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return {"variable": self.variable, "hidden": self.hidden, "width": self.width}

    def embed(self, values: Tensor, memory: Memory | None) -> Tensor:
        """See the base class."""
        embedded: Tensor = self.embedding(values)
        return embedded

    def log_probs(self, hidden: Tensor, memory: Memory | None) -> Tensor:
        """See the base class."""
        scores: Tensor = self.out(hidden)
        return scores.log_softmax(-1)


class PointerHead(DiscreteHead):
    r"""A softmax over the steps of the input.

    .. math:: p(y = j \mid h) \propto e^{v^\top \tanh(W_1 m_j + W_2 h)}

    A value is the index of a step; its embedding is the encoded step.

    Args:
        variable: Variable whose states are step indices, at least as many as an input has steps.
        hidden: Size of the hidden states.
        memory: Size of an encoded step.

    References:
        Vinyals, Fortunato and Jaitly (2015), Pointer networks, section 2.3.
    """

    def __init__(self, variable: Variable, hidden: int, memory: int) -> None:
        super().__init__(variable, hidden)
        self.width = memory = whole_number("memory", memory, 1, ModelError)
        self.place, self.look = nn.Linear(memory, hidden), nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return {"variable": self.variable, "hidden": self.hidden, "memory": self.width}

    def embed(self, values: Tensor, memory: Memory | None) -> Tensor:
        """See the base class."""
        padded = nn.functional.pad(_needed(memory).values, (0, 0, 0, 1))
        places = values.clamp_max(padded.shape[1] - 1)  # impossible indices embed as zeros
        return padded.gather(1, places.unsqueeze(-1).expand(*values.shape, padded.shape[-1]))

    def log_probs(self, hidden: Tensor, memory: Memory | None) -> Tensor:
        """See the base class; indices beyond the input are impossible."""
        encoded = _needed(memory)
        both = self.place(encoded.values)[:, None] + self.look(hidden)[:, :, None]
        logs = log_weights(self.score(both.tanh()).squeeze(-1), encoded.inside)
        beyond = self.variable.num_states - logs.shape[-1]
        return nn.functional.pad(logs, (0, beyond), value=-torch.inf)


class MixtureDensityHead(OutputHead):
    r"""A mixture of normal distributions of a vector.

    .. math:: p(y \mid h) = \sum_k \pi_k(h) \, N(y; \mu_k(h), L_k(h) L_k(h)^\top)

    Args:
        variable: A real vector.
        hidden: Size of the hidden states.
        components: Number of components.

    References:
        Graves (2013), Generating sequences with recurrent neural networks, section 4.1; Bishop
        (1994), Mixture density networks.
    """

    floor = 1e-3
    """Smallest standard deviation, which bounds the density."""

    def __init__(self, variable: Variable, hidden: int, components: int) -> None:
        super().__init__(variable, hidden)
        if variable.is_discrete:
            raise ModelError(
                f"{variable.name!r} must be real, got a discrete variable", "use CategoricalHead"
            )
        self.components = components = whole_number("components", components, 1, ModelError)
        self.width = size = max(1, int(torch.Size(variable.shape[1:]).numel()))
        self.out = nn.Linear(hidden, components * (1 + 2 * size + size * (size - 1) // 2))

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return {"variable": self.variable, "hidden": self.hidden, "components": self.components}

    def embed(self, values: Tensor, memory: Memory | None) -> Tensor:
        """See the base class; values are their own features."""
        return self._flat(values)

    def log_prob(self, hidden: Tensor, values: Tensor, memory: Memory | None) -> Tensor:
        """See the base class."""
        logs, mean, scale = self._parts(hidden)
        away = (self._flat(values)[..., None, :] - mean).unsqueeze(-1)
        white = torch.linalg.solve_triangular(scale, away, upper=False).squeeze(-1)
        spread = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        normal = -0.5 * (white.square().sum(-1) + self.width * math.log(2 * math.pi)) - spread
        total: Tensor = (logs + normal).logsumexp(-1)
        return total

    def draw(self, hidden: Tensor, memory: Memory | None, rng: torch.Generator) -> Tensor:
        """See the base class."""
        logs, mean, scale = self._parts(hidden)
        chosen = drawn(logs.exp(), rng)
        row = torch.arange(len(chosen), device=chosen.device)
        noise = torch.randn(len(chosen), self.width, generator=rng).to(mean)
        values = mean[row, chosen] + (scale[row, chosen] @ noise[..., None]).squeeze(-1)
        return values.reshape(-1, *self.variable.shape[1:])

    def _flat(self, values: Tensor) -> Tensor:
        event = len(self.variable.shape) - 1
        lead = values.shape[: values.dim() - event]
        return values.reshape(*lead, self.width).to(self.out.weight)

    def _parts(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights ``(..., C)``, means ``(..., C, D)`` and Cholesky factors."""
        size, number = self.width, self.components
        out = self.out(hidden)
        rest = [number, number * size, number * size, out.shape[-1] - number * (1 + 2 * size)]
        weight, mean, spread, below = out.split(rest, dim=-1)
        lead = out.shape[:-1]
        scale = torch.diag_embed(
            nn.functional.softplus(spread.reshape(*lead, number, size)) + self.floor
        )
        row, column = torch.tril_indices(size, size, -1)
        lower = torch.zeros_like(scale)
        lower[..., row, column] = below.reshape(*lead, number, -1)
        return weight.log_softmax(-1), mean.reshape(*lead, number, size), scale + lower


def drawn(probs: Tensor, rng: torch.Generator) -> Tensor:
    """Return ``(B,)`` indices drawn with probabilities ``(B, K)``.

    Raises:
        ModelError: If a probability is NaN.
    """
    if not len(probs):
        return probs.new_zeros(0, dtype=torch.int64)
    if bool(probs.isnan().any()):
        raise ModelError(NOT_A_NUMBER)
    chosen = torch.multinomial(probs.double().cpu(), 1, generator=rng)[:, 0]
    return chosen.to(probs.device)


def _needed(memory: Memory | None) -> Memory:
    if memory is None:
        raise ModelError("a pointer needs an encoded input, got none", "give the model an encoder")
    return memory
