"""Language models."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from torch import nn

from pgnn.models.autoregressive_model import AutoregressiveModel, over_time
from pgnn.neural.encoder_decoder import Decoder
from pgnn.neural.output_heads import CategoricalHead


class LanguageModel(AutoregressiveModel):
    r"""A network that models each token given all previous ones, recurrent or by attention.

    .. math:: p(y) = \prod_t p(y_t \mid y_1, \dots, y_{t-1})

    If tokens are characters, strings are sequences: ``fit(["to be", "or not"])``. A list of strings
    that are all tokens is one sequence, in all containers: ``["a", "b"]`` is the text ``"ab"``;
    pass two texts of one character as ``[["a"], ["b"]]``.

    Args:
        tokens: Number or names of the tokens, such as the characters of a text.
        hidden: Size of the hidden states.
        layers: Number of recurrent layers.
        embedding: Size of the embedding of a token.
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``.
        dropout: Dropout probability of hidden units during a fit.
        body: A network with ``embedding`` inputs and ``hidden`` outputs that replaces the recurrent
            cells, such as :class:`pgnn.neural.TransformerDecoder`.
        ends: Whether the model includes the end of texts; otherwise, their length is given.
        name: Name of the token.

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
