"""Sequence-to-sequence models and pointer networks."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs
from pgnn.errors import EvidenceError
from pgnn.evidence.paired_sequences import PairedSequences
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import MISSING, Variable
from pgnn.models.autoregressive_model import AutoregressiveModel, over_time
from pgnn.neural.encoder_decoder import Decoder, Encoder
from pgnn.neural.output_heads import CategoricalHead, PointerHead


class SequenceToSequence(AutoregressiveModel):
    r"""A model of a sequence of tokens given another: encoder, attention and decoder.

    Args:
        tokens: Number or names of the output tokens.
        source: Number or names of the input tokens; the output tokens by default.
        hidden: Size of the hidden states, an even number.
        encoder: The encoder, by default :class:`pgnn.neural.Encoder` of that size, or
            :class:`pgnn.neural.TransformerEncoder`.
        decoder: The decoder, by default :class:`pgnn.neural.Decoder`, or
            :class:`pgnn.neural.TransformerDecoder`, with ``hidden`` as the size of inputs, states
            and memory.
        ends: Whether the model includes the end of sequences.
        name: Name of the output tokens.
        input_name: Name of the input tokens.

    References:
        Luong, Pham and Manning (2015), Effective approaches to attention-based neural machine
        translation; Bahdanau, Cho and Bengio (2015), Neural machine translation by jointly
        learning to align and translate.

    Example:
        >>> model = SequenceToSequence(["x", "y"], ["a", "b"], hidden=8)
        >>> model.log_prob([["x"], ["y", "x"]], inputs={"source": [["a"], ["a", "b"]]}).shape
        torch.Size([2])
    """

    def __init__(
        self,
        tokens: int | Iterable[Hashable],
        source: int | Iterable[Hashable] | None = None,
        hidden: int = 64,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        ends: bool = True,
        name: Hashable = "token",
        input_name: Hashable = "source",
    ) -> None:
        token = over_time(name, tokens)
        read = token.states if source is None else source
        read_variable = over_time(input_name, read)
        super().__init__(
            [CategoricalHead(token, hidden, hidden)],
            Decoder(hidden, hidden, memory=hidden) if decoder is None else decoder,
            hidden,
            encoder=(
                Encoder(read_variable.num_states, hidden, tokens=True)
                if encoder is None
                else encoder
            ),
            ends=ends,
            input_name=input_name,
        )
        self._source = read_variable

    def settings(self) -> dict[str, Any]:
        """Return the tokens, and the networks."""
        (token,) = self.variables.values()
        parts = super().settings()
        return {
            "tokens": token.states,
            "source": self._source.states,
            "hidden": self.hidden,
            "encoder": parts["encoder"],
            "decoder": parts["body"],
            "ends": self.ends,
            "name": token.name,
            "input_name": self.input_name,
        }

    def read(self, evidence: Any, inputs: Inputs | None = None) -> PairedSequences:
        """Read output and input sequences of labels in any form."""
        if isinstance(evidence, PairedSequences) or self.input_name not in (inputs or {}):
            return super().read(evidence, inputs)
        raw: Any = dict(inputs or {})
        observed = SequenceEvidence.read([self._source], {self.input_name: raw[self.input_name]})
        codes = observed.codes[self.input_name]
        missing = (codes == MISSING) & observed.inside
        if bool(missing.any()):
            row, step = missing.nonzero()[0].tolist()
            raise EvidenceError(
                f"the input {self.input_name!r} is missing in row {row}, step {step}"
            )
        raw[self.input_name] = codes.clamp_min(0) if observed.batched else codes[0].clamp_min(0)
        raw[AXIS] = observed.lengths
        return super().read(evidence, raw)


class PointerNetwork(AutoregressiveModel):
    r"""A pointer network, which outputs positions in a sequence of vectors: sorting, tours.

    Args:
        features: Number of features of a step of the input.
        places: Largest number of steps of an input.
        hidden: Size of the hidden states, an even number.
        ends: Whether the model includes the end of outputs; otherwise, an output has as many
            positions as its input has steps.
        name: Name of the positions, which start at 0.
        input_name: Name of the input.

    References:
        Vinyals, Fortunato and Jaitly (2015), Pointer networks.

    Example:
        >>> model = PointerNetwork(1, places=5, hidden=8)
        >>> numbers = torch.tensor([[0.3], [0.1], [0.2]])
        >>> model.sample(2, inputs={"x": numbers}, seed=0)["place"].shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        features: int,
        places: int,
        hidden: int = 64,
        *,
        ends: bool = False,
        name: Hashable = "place",
        input_name: Hashable = "x",
    ) -> None:
        head = PointerHead(Variable(name, places, (AXIS,)), hidden, hidden)
        body = Decoder(hidden, hidden, memory=hidden)
        encoder = Encoder(features, hidden)
        super().__init__([head], body, hidden, encoder=encoder, ends=ends, input_name=input_name)
        self._made = {"features": features, "places": places}

    def settings(self) -> dict[str, Any]:
        """Return the sizes of the network."""
        names = {"name": next(iter(self.variables)), "input_name": self.input_name}
        return {**self._made, "hidden": self.hidden, "ends": self.ends, **names}

    def read(self, evidence: Any, inputs: Inputs | None = None) -> PairedSequences:
        """Read positions and input sequences.

        Raises:
            EvidenceError: If a position is outside the input, or the input is too long.
        """
        rows = super().read(evidence, inputs)
        places, name = self._made["places"], next(iter(self.variables))
        longest = int(rows.input_lengths.max()) if rows.num_rows else 0
        if longest > places:
            raise EvidenceError(
                f"the input {self.input_name!r} must have at most places={places} steps, got "
                f"{longest}"
            )
        codes = rows.codes.get(name, torch.zeros(rows.num_rows, 0, dtype=torch.int64))
        beyond: Tensor = codes >= rows.input_lengths[:, None]
        if bool(beyond.any()):
            row, step = beyond.nonzero()[0].tolist()
            raise EvidenceError(
                f"{name!r} is {int(codes[row, step])} in row {row}, step {step}, but the input "
                f"has {int(rows.input_lengths[row])} steps"
            )
        return rows
