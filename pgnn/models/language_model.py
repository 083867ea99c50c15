"""Models of text."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from torch import nn

from pgnn.models.autoregressive_model import AutoregressiveModel, over_time
from pgnn.neural.encoder_decoder import Decoder
from pgnn.neural.output_heads import CategoricalHead


class LanguageModel(AutoregressiveModel):
    r"""A network that says each token given all before it: recurrent cells, or attention.

    .. math:: p(y) = \prod_t p(y_t \mid y_1, \dots, y_{t-1})

    Where tokens are characters, texts are sequences: ``fit(["to be", "or not"])``. Strings each of
    which is a token are one sequence, in all containers: ``["a", "b"]`` is the text ``"ab"``, and
    two texts of one character are ``[["a"], ["b"]]``.

    Args:
        tokens: Number or names of the tokens; of a text its characters.
        hidden: Size of the hidden states.
        layers: Of recurrent cells.
        embedding: Numbers that stand for a token.
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``.
        dropout: Share of hidden numbers that are left out while learning.
        body: The network, in the place of recurrent cells, such as
            :class:`pgnn.neural.TransformerDecoder`: of ``embedding`` numbers in and ``hidden`` out.
        ends: Whether the model says where texts end; if not, they are of a given length.
        name: Of the token.

    References:
        Graves (2013), Generating sequences with recurrent neural networks, section 3.

    Example:
        >>> model = LanguageModel("ab", hidden=8)
        >>> model.log_prob(["ab", "b"]).shape, len(model.sample(1, {"T": 5}, seed=0)["token"][0])
        (torch.Size([2]), 5)
        >>> model.predict("ab")["token"].probs.shape  # of the next character
        torch.Size([1, 2])
    """

    def __init__(
        self,
        tokens: int | Iterable[Hashable],
        hidden: int = 128,
        *,
        layers: int = 1,
        embedding: int = 32,
        cell: str = "lstm",
        dropout: float = 0.0,
        body: nn.Module | None = None,
        ends: bool = False,
        name: Hashable = "token",
    ) -> None:
        head = CategoricalHead(over_time(name, tokens), hidden, embedding)
        cells = Decoder(embedding, hidden, layers=layers, cell=cell, dropout=dropout)
        super().__init__([head], cells if body is None else body, hidden, ends=ends)
        self._made = {"layers": layers, "embedding": embedding, "cell": cell, "dropout": dropout}

    def settings(self) -> dict[str, Any]:
        """Return the tokens, and the sizes of the network."""
        (token,) = self.variables.values()
        body = super().settings()["body"]
        sizes = {"hidden": self.hidden, **self._made, "body": body, "ends": self.ends}
        return {"tokens": token.states, **sizes, "name": token.name}
