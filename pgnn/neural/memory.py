"""Memory networks and neural Turing machines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softplus

from pgnn.errors import ModelError
from pgnn.limits import whole_number
from pgnn.neural.attention import Attention, DotScore


class MemoryNetwork(nn.Module):
    r"""An end-to-end memory network, which looks up a question in a story in several hops.

    .. math:: p^k_i = \mathrm{softmax}_i(u^k \cdot m_i^k), \qquad
        u^{k+1} = u^k + \sum_i p^k_i c_i^k

    The vector of a sentence is the sum of its word vectors and of a vector for its age;
    :math:`m^{k+1} = c^k`. The body takes named inputs (``features=pgnn.ByName()``).

    Args:
        words: Size of the vocabulary; word 0 is padding.
        size: Size ``M`` of the vector of a sentence.
        sentences: Largest number of sentences of a story.
        hops: Number of lookups.
        story: Name of the input ``(B, S, W)``, the words of the sentences, the latest one last.
        question: Name of the input ``(B, W)``.

    References:
        Sukhbaatar, Szlam, Weston and Fergus (2015), End-to-end memory networks, sections 2 and 4.1
        (adjacent weights, temporal encoding).

    Example:
        >>> network = MemoryNetwork(words=20, size=8, sentences=5)
        >>> inputs = {"story": torch.ones(3, 5, 4).long(), "question": torch.ones(3, 4).long()}
        >>> network(inputs).shape
        torch.Size([3, 8])
    """

    def __init__(
        self, words: int, size: int, sentences: int, hops: int = 3, *,
        story: Hashable = "story", question: Hashable = "question",
    ) -> None:  # fmt: skip
        super().__init__()
        self.hops = whole_number("hops", hops, 1, ModelError)
        self.sentences = whole_number("sentences", sentences, 1, ModelError)
        self.story, self.question, self.out_features = story, question, size
        self.words = nn.ModuleList(
            nn.EmbeddingBag(words, size, mode="sum", padding_idx=0) for _ in range(hops + 1)
        )
        self.ages = nn.Parameter(0.1 * torch.randn(hops + 1, sentences, size))
        for table in self.words:
            nn.init.normal_(table.weight, std=0.1)  # type: ignore[arg-type]
        self.attention = Attention(DotScore())

    def forward(self, inputs: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(B, size)``.

        Raises:
            ModelError: If a story has too many sentences.
        """
        story, question = inputs[self.story].long(), inputs[self.question].long()
        if story.dim() != 3 or story.shape[1] > self.sentences:
            raise ModelError(
                f"a story must be (B, S, W) with at most {self.sentences} sentences, got "
                f"{tuple(story.shape)}"
            )
        inside = (story != 0).any(-1)
        state: Tensor = self.words[0](question)
        keys = self._sentences(story, 0)
        for hop in range(self.hops):
            values = self._sentences(story, hop + 1)
            state = state + self.attention(state[:, None], keys, values, inside)[:, 0]
            keys = values
        return state

    def _sentences(self, story: Tensor, k: int) -> Tensor:
        """Return ``(B, S, M)`` vectors of sentences, including those for their age."""
        rows, number, width = story.shape
        sums: Tensor = self.words[k](story.reshape(-1, width)).reshape(rows, number, -1)
        return sums + self.ages[k, self.sentences - number :]


class Tape(NamedTuple):
    """State of a neural Turing machine.

    Attributes:
        shown: ``(B, H)`` output of the controller.
        cells: ``(B, N, M)`` memory.
        reading: ``(B, N)`` read weights of the memory locations.
        writing: ``(B, N)`` write weights of the memory locations.
        read: ``(B, M)`` vector that was read.
    """

    shown: Tensor
    cells: Tensor
    reading: Tensor
    writing: Tensor
    read: Tensor


class TuringMachineCell(nn.Module):
    r"""A cell that reads and writes a memory, addressed by content and by location.

    .. math:: w^c_i &\propto e^{\beta \cos(k, M_i)}, \quad
        w^g = g w^c + (1 - g) w_{t-1}, \quad \tilde w_i = \sum_j s_{i-j} w^g_j, \quad
        w_i \propto \tilde w_i^\gamma \\
        M_i &\leftarrow M_i \odot (1 - w_i e) + w_i a, \qquad r = \sum_i w_i M_i

    It writes before it reads. The controller is a layer of units whose inputs are the input and the
    vector that was read last.

    Args:
        input_size: Number of features of a step.
        hidden_size: Number of units of the controller, which are the output.
        places: Number ``N`` of memory locations.
        width: Size ``M`` of a memory location.

    References:
        Graves, Wayne and Danihelka (2014), Neural Turing machines, section 3.

    Example:
        >>> TuringMachineCell(3, 8, places=6, width=4)(torch.zeros(5, 3)).cells.shape
        torch.Size([5, 6, 4])
    """

    def __init__(self, input_size: int, hidden_size: int, places: int, width: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.places = whole_number("places", places, 3, ModelError)
        self.width = whole_number("width", width, 1, ModelError)
        self.controller = nn.Linear(input_size + width, hidden_size)
        self.reader = nn.Linear(hidden_size, width + 6)
        self.writer = nn.Linear(hidden_size, 3 * width + 6)
        self.out = nn.Linear(hidden_size + width, hidden_size)

    def forward(self, x: Tensor, state: Tape | None = None) -> Tape:
        """Return the state with the output, the memory and the addressing weights."""
        before = self._begin(x) if state is None else state
        hidden = torch.tanh(self.controller(torch.cat([x, before.read], 1)))
        orders, erase, add = self.writer(hidden).split([self.width + 6, *[self.width] * 2], 1)
        writing = self._place(orders, before.cells, before.writing)[:, :, None]
        cells = before.cells * (1 - writing * erase.sigmoid()[:, None]) + writing * add[:, None]
        reading = self._place(self.reader(hidden), cells, before.reading)
        read = (reading[:, :, None] * cells).sum(1)
        shown = torch.tanh(self.out(torch.cat([hidden, read], 1)))
        return Tape(shown, cells, reading, writing[:, :, 0], read)

    def _begin(self, x: Tensor) -> Tape:
        """Return an empty memory, addressed at its first location."""
        first = x.new_zeros(len(x), self.places)
        first[:, 0] = 1.0
        none = x.new_zeros(len(x), self.width)
        cells = x.new_full((len(x), self.places, self.width), 1e-6)
        return Tape(x.new_zeros(len(x), self.hidden_size), cells, first, first, none)

    def _place(self, orders: Tensor, cells: Tensor, before: Tensor) -> Tensor:
        """Return ``(B, N)`` weights of the locations, by content and by shift."""
        key, strength, keep, moves, sharp = torch.split(orders, [self.width, 1, 1, 3, 1], 1)
        alike = cosine_similarity(key[:, None], cells, dim=-1)
        found = (softplus(strength) * alike).softmax(-1)
        weights = before.lerp(found, keep.sigmoid())
        back, stay, on = moves.softmax(-1).chunk(3, 1)
        moved = back * weights.roll(-1, 1) + stay * weights + on * weights.roll(1, 1)
        logs: Tensor = (1 + softplus(sharp)) * moved.clamp_min(1e-12).log()
        return logs.softmax(-1)
