"""Sequences generated step by step by a network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx
import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs, StepwiseModel
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.evidence.paired_sequences import PairedSequences
from pgnn.factors.factor import Factor
from pgnn.factors.named_network import called
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number
from pgnn.models.model import Model
from pgnn.neural.output_heads import NOT_A_NUMBER, DiscreteHead, Memory, OutputHead

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner
    from pgnn.inference.posterior import Posterior

_STEPS = 2**17
"""Steps whose hidden states are held at once where no gradient is wanted."""


class Progress(NamedTuple):
    """How far rows are: what comes next depends on these alone.

    Attributes:
        hidden: ``(B, H)`` hidden states of the next step.
        body: What the body goes on from.
        memory: What it looks at.
    """

    hidden: Tensor
    body: Any
    memory: Memory | None


class AutoregressiveModel(Model, StepwiseModel):
    r"""Each step of a sequence given all steps before it, and an input if there is one.

    .. math:: p(y \mid x) = \Big( \prod_{t=1}^n (1 - e_t) \, p(y_t \mid h_t) \Big) e_{n+1},
        \qquad h_t = f(y_{t-1}, h_{t-1}; m(x))

    where :math:`e_t` is the probability that the sequence has ended before step :math:`t`; without
    ends the model is one of sequences of a given length. Learning compares each step with what was
    observed, given what was observed before (teacher forcing). Draws that go on from a beginning
    are exact; the most probable sequence is sought by :class:`BeamSearch`, which tells how far from
    the best it can be; other steps that are missing are summed out by :class:`SequenceCompletion`.

    Args:
        heads: What hidden states say about each variable; several are independent given them.
        body: Maps features ``(B, T, E)`` of the values before, a state and a memory to hidden
            states ``(B, T, H)`` and a state, see :class:`pgnn.neural.Decoder`.
        hidden: ``H``.
        encoder: Maps an input and its lengths to a :class:`pgnn.neural.Memory`, see
            :class:`pgnn.neural.Encoder`; there is no input if not given.
        ends: Whether the model says where sequences end.
        input_name: Name of the input.

    Raises:
        ModelError: If there is no head, two are of the same variable, or a part is no module.

    References:
        Sutskever, Vinyals and Le (2014), Sequence to sequence learning with neural networks;
        Williams and Zipser (1989), A learning algorithm for continually running fully recurrent
        neural networks (teacher forcing).

    Example:
        >>> from pgnn.neural import Decoder, MixtureDensityHead
        >>> pen = MixtureDensityHead(Variable("pen", None, (AXIS, 2)), hidden=16, components=3)
        >>> model = AutoregressiveModel([pen], Decoder(pen.width, 16), 16)
        >>> model.log_prob({"pen": torch.zeros(3, 5, 2)}).shape
        torch.Size([3])
    """

    is_normalized = True

    def __init__(
        self,
        heads: Sequence[OutputHead],
        body: nn.Module,
        hidden: int,
        *,
        encoder: nn.Module | None = None,
        ends: bool = True,
        input_name: Hashable = "x",
    ) -> None:
        super().__init__()
        for head in heads:
            if not isinstance(head, OutputHead):
                raise ModelError(f"a head must be an OutputHead, got {type(head).__name__}")
        if not isinstance(body, nn.Module) or not isinstance(encoder, nn.Module | None):
            raise ModelError(f"body and encoder must be torch modules, got {body!r}, {encoder!r}")
        names = [head.variable.name for head in heads]
        if not names or len(set(names)) < len(names):
            raise ModelError(f"give a head for each variable, got those of {names}")
        self.heads, self.body, self.encoder = nn.ModuleList(heads), body, encoder
        self.hidden, self.input_name = hidden, input_name
        self._ends = ends
        self.first = nn.Parameter(torch.zeros(sum(head.width for head in heads)))
        self.end = nn.Linear(hidden, 1) if ends else None
        self.graph = nx.freeze(nx.DiGraph([((n, -1), m) for n in names for m in names]))

    def settings(self) -> Settings:
        """Return the parts.

        Raises:
            Unsupported: If one is a network of the caller's, which does not tell how it is made.
        """
        for part in (*self.heads, self.body, self.encoder):
            if part is not None and not isinstance(part, Restorable):
                raise Unsupported(
                    f"a checkpoint keeps networks that give their settings(), such as those of "
                    f"pgnn.neural; a {type(part).__name__} gives none: save the model's "
                    "state_dict() with torch"
                )
        return {
            "heads": tuple(self.heads),
            "body": self.body,
            "hidden": self.hidden,
            "encoder": self.encoder,
            "ends": self._ends,
            "input_name": self.input_name,
        }

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables of the heads."""
        return {head.variable.name: head.variable for head in self._heads}

    @property
    def ends(self) -> bool:
        """Whether the model says where a sequence ends."""
        return self._ends

    @property
    def _heads(self) -> list[OutputHead]:
        return list(self.heads)  # type: ignore[arg-type]

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Refused: a table of all steps together would have too many entries.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"a {type(self).__name__} has no tables: leave engine= out, or give BeamSearch(...)"
        )

    # --- scores -------------------------------------------------------------------------------

    def read(self, evidence: Any, inputs: Inputs | None = None) -> PairedSequences:
        """Read sequences and the input, see the base class."""
        name = self.input_name if self.encoder is not None else None
        rows = PairedSequences.of_pair([*self.variables.values()], evidence, inputs, name)
        if rows.soft:
            raise EvidenceError(f"{next(iter(rows.soft))!r} must be states, not likelihoods")
        return rows

    def log_likelihood(self, rows: PairedSequences) -> Callable[[], Tensor]:
        """Return what gives ``(B,)`` log probabilities, see the base class.

        Raises:
            EvidenceError: If a step was not observed, on which the next ones depend.
        """
        self._check_observed(rows)

        def log_probs() -> Tensor:
            if torch.is_grad_enabled() or rows.num_rows * (rows.steps + 1) <= _STEPS:
                return self._sound(self._log_probs(rows))
            size = max(1, _STEPS // (rows.steps + 1))
            pieces = torch.split(torch.arange(rows.num_rows), size)
            return self._sound(torch.cat([self._log_probs(rows.take(p)) for p in pieces]))

        return log_probs

    def _log_probs(self, rows: PairedSequences) -> Tensor:
        memory = self._memory(rows)
        values = {n: self._at(n, rows) for n in self.variables}
        # where nothing was observed the features are those of the first state, or zeros
        features = self._features(values, memory, rows.num_rows, rows.steps)
        first = self.first.expand(rows.num_rows, 1, -1)
        last = self._ends or not rows.steps
        before = torch.cat([first, features if last else features[:, :-1]], dim=1)
        hidden, _ = self._hidden(before, None, memory)
        inside = rows.inside.to(hidden.device)
        total: Tensor = hidden.new_zeros(rows.num_rows)
        for head in self._heads:
            log_probs = head.log_prob(hidden[:, : rows.steps], values[head.variable.name], memory)
            total = total + log_probs.masked_fill(~inside, 0.0).sum(1)
        if self.end is None:
            return total
        scores = self.end(hidden).squeeze(-1)
        going = nn.functional.logsigmoid(-scores[:, : rows.steps]).masked_fill(~inside, 0.0)
        lengths = rows.lengths.to(hidden.device)[:, None]
        ended = nn.functional.logsigmoid(scores).gather(1, lengths)[:, 0]
        return total + going.sum(1) + ended

    def _hidden(self, features: Tensor, state: Any, memory: Memory | None) -> tuple[Tensor, Any]:
        """What the body returns, looked at."""
        hidden, after = called("body", self.body, features, state, memory)
        expected = (*features.shape[:2], self.hidden)
        if tuple(hidden.shape) != expected:
            raise ModelError(
                f"the body must return hidden states {expected} and a state, got "
                f"{tuple(hidden.shape)}"
            )
        return hidden, after

    def _sound(self, logs: Tensor) -> Tensor:
        """Log probabilities, if they are numbers; a learner looks at those that it steps to."""
        if not self._fitting and bool(logs.detach().isnan().any()):
            raise ModelError(NOT_A_NUMBER)
        return logs

    def _at(self, name: Hashable, rows: PairedSequences) -> Tensor:
        """``(B, T, *event)`` values, harmless ones beyond the ends."""
        if self.variables[name].is_discrete:
            none = torch.full((rows.num_rows, rows.steps), -1)
            codes = rows.codes.get(name, none).clamp_min(0)
            return codes.to(self.first.device)
        shape = (rows.num_rows, rows.steps, *self.variables[name].shape[1:])
        reals = rows.reals.get(name, torch.zeros(shape))
        return reals.nan_to_num(0.0).to(self.first)

    def _features(
        self, values: Mapping[Hashable, Tensor], memory: Memory | None, rows: int, steps: int
    ) -> Tensor:
        if not steps:
            return self.first.new_zeros(rows, 0, len(self.first))
        embedded = [head.embed(values[head.variable.name], memory) for head in self._heads]
        return torch.cat(embedded, dim=-1)

    def _memory(self, rows: PairedSequences) -> Memory | None:
        if self.encoder is None:
            return None
        x = rows.inputs[self.input_name]
        memory: Memory = called("encoder", self.encoder, x, rows.input_lengths)
        return memory

    def _check_observed(self, rows: PairedSequences) -> None:
        for name in self.variables:
            missing = rows.inside & ~rows.observed_steps(name)
            if bool(missing.any()):
                row, step = missing.nonzero()[0].tolist()
                raise EvidenceError(
                    f"{name!r} was not observed in row {row}, step {step}, on which the next "
                    "steps depend: give whole sequences, or ask SequenceCompletion()"
                )

    # --- step by step -------------------------------------------------------------------------

    def start(self, observed: PairedSequences) -> Progress:
        """See the base class."""
        memory = self._memory(observed)
        first = self.first.expand(observed.num_rows, 1, -1)
        hidden, state = self._hidden(first, None, memory)
        return Progress(hidden[:, 0], state, memory)

    def advance(self, state: Progress, values: Mapping[Hashable, Tensor]) -> Progress:
        """See the base class."""
        steps = {n: x.unsqueeze(1).to(self.first.device) for n, x in values.items()}
        features = self._features(steps, state.memory, len(state.hidden), 1)
        hidden, body = self._hidden(features, state.body, state.memory)
        return Progress(hidden[:, 0], body, state.memory)

    def end_log_probs(self, state: Progress) -> tuple[Tensor, Tensor]:
        """See the base class."""
        if self.end is None:
            going = state.hidden.new_zeros(len(state.hidden))
            return going, going - torch.inf
        scores = self.end(state.hidden).squeeze(-1)
        return nn.functional.logsigmoid(-scores), nn.functional.logsigmoid(scores)

    def next_log_probs(self, state: Progress) -> Tensor:
        """See the base class."""
        head = self._heads[0]
        if len(self.heads) > 1 or not isinstance(head, DiscreteHead):
            raise Unsupported(
                "the next value is predicted, and the best sequence sought, where there is one "
                "variable, a discrete one; sample() draws all kinds"
            )
        return self._sound(head.log_probs(state.hidden[:, None], state.memory)[:, 0])

    def draw(self, state: Progress, rng: torch.Generator) -> dict[Hashable, Tensor]:
        """See the base class."""
        heads = self._heads
        return {h.variable.name: h.draw(state.hidden, state.memory, rng) for h in heads}

    def step_log_probs(
        self, state: Progress, values: Mapping[Hashable, Tensor]
    ) -> dict[Hashable, Tensor]:
        """See the base class."""
        hidden, logs = state.hidden[:, None], {}
        for head in self._heads:
            name = head.variable.name
            x = values[name].unsqueeze(1).to(hidden.device)
            logs[name] = self._sound(head.log_prob(hidden, x, state.memory))[:, 0]
        return logs

    # --- verbs --------------------------------------------------------------------------------

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`: sequences are read together with their inputs.

        Raises:
            DataError: If a step was not observed.
        """
        try:
            rows = self.read(data, inputs)
            self._check_observed(rows)
        except EvidenceError as error:
            raise DataError(str(error)) from None
        yield rows, None

    def predict(
        self, evidence: Any = None, steps: int = 1, *, inputs: Inputs | None = None
    ) -> Posterior:
        r"""Return probabilities of the next value, :math:`p(y_{t+1} \mid y_1, \dots, y_t)`.

        Args:
            evidence: Beginnings of any lengths.
            steps: One; the steps after the next depend on each other, and are drawn.
            inputs: The input.

        Returns:
            The variable at one step. Where the model says where sequences end,
            ``diagnostics["end"]`` is the probability that there is none.

        Raises:
            Unsupported: If there is more than one variable, or it is real; or more than one step.

        Cost: One pass over the steps.
        """
        from pgnn.inference.time.sequence_completion import SequenceCompletion

        if whole_number("steps", steps, 1, EvidenceError) > 1:
            name = next(iter(self.variables))
            raise Unsupported(
                f"predict() tells the next step alone, not the next {steps}: draw how a sequence "
                f"goes on by sample(n, {{{name!r}: ..., 'T': length}})"
            )
        self.check_inputs(inputs)
        return SequenceCompletion().predict(self, evidence, inputs=inputs)

    def default_learner(self, data: Any) -> Learner:
        """Return steps of Adam over batches of 32 rows, with short gradients."""
        from pgnn.inference.learning.gradient import Gradient

        return Gradient.of_networks(rate=0.003, passes=30)

    def default_engine(self) -> Engine:
        """Return ``SequenceCompletion()``."""
        from pgnn.inference.time.sequence_completion import SequenceCompletion

        return SequenceCompletion()


def over_time(name: Hashable, states: Any, shape: tuple[int, ...] = ()) -> Variable:
    """Return a variable with a value at each step.

    Args:
        name: Of the variable.
        states: Number or labels, which may be the characters of a text; None if it is real.
        shape: Of a real value.
    """
    return Variable(name, [*states] if isinstance(states, str) else states, (AXIS, *shape))
