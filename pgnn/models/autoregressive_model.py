"""Autoregressive models of sequences."""

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
"""Number of steps whose hidden states are stored at once if no gradient is required."""


class Progress(NamedTuple):
    """The state of the rows, which determines the distribution of the next step.

    Attributes:
        hidden: ``(B, H)`` hidden states of the next step.
        body: Recurrent state of the body.
        memory: Memory for attention.
    """

    hidden: Tensor
    body: Any
    memory: Memory | None


class AutoregressiveModel(Model, StepwiseModel):
    r"""A model of each step of a sequence given all previous steps and an optional input.

    .. math:: p(y \mid x) = \Big( \prod_{t=1}^n (1 - e_t) \, p(y_t \mid h_t) \Big) e_{n+1},
        \qquad h_t = f(y_{t-1}, h_{t-1}; m(x))

    where :math:`e_t` is the probability that the sequence ends before step :math:`t`; without ends,
    the length of a sequence is given. Each step is learned given the observed previous steps
    (teacher forcing). Draws that continue a prefix are exact. The most probable sequence is found
    approximately by :class:`BeamSearch`, with a bound on the gap; other missing steps are
    marginalised by :class:`SequenceCompletion`.

    Args:
        heads: The distribution of each variable given hidden states; variables are independent
            given these.
        body: Maps features ``(B, T, E)`` of the previous values, a state and a memory to hidden
            states ``(B, T, H)`` and a state, see :class:`pgnn.neural.Decoder`.
        hidden: Size ``H`` of the hidden states.
        encoder: Maps an input and its lengths to a :class:`pgnn.neural.Memory`, see
            :class:`pgnn.neural.Encoder`; no input by default.
        ends: Whether the model includes the end of sequences.
        input_name: Name of the input.

    Raises:
        ModelError: If there is no head, two heads have the same variable, or a part is not a
            module.

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
            raise ModelError(f"each variable must have one head, got heads of {names}")
        self.heads, self.body, self.encoder = nn.ModuleList(heads), body, encoder
        self.hidden, self.input_name = hidden, input_name
        self._ends = ends
        self.first = nn.Parameter(torch.zeros(sum(head.width for head in heads)))
        self.end = nn.Linear(hidden, 1) if ends else None
        self.graph = nx.freeze(nx.DiGraph([((n, -1), m) for n in names for m in names]))

    def settings(self) -> Settings:
        """Return the parts.

        Raises:
            Unsupported: If a part is a custom network without ``settings()``.
        """
        for part in (*self.heads, self.body, self.encoder):
            if part is not None and not isinstance(part, Restorable):
                raise Unsupported(
                    "a checkpoint needs networks with settings(), such as those of pgnn.neural, "
                    f"got {type(part).__name__} without",
                    "save the state_dict() of the model with torch",
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
        """Whether the model includes the end of sequences."""
        return self._ends

    @property
    def _heads(self) -> list[OutputHead]:
        return list(self.heads)  # type: ignore[arg-type]

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Not supported: a joint table of all steps would have too many entries.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"{type(self).__name__} has no tables", "leave out engine=, or pass BeamSearch(...)"
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
        """Return a function that computes ``(B,)`` log probabilities, see the base class.

        Raises:
            EvidenceError: If a step is missing on which later steps depend.
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
        # missing values have the features of the first state, or zeros
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
        """Return the validated output of the body."""
        hidden, after = called("body", self.body, features, state, memory)
        expected = (*features.shape[:2], self.hidden)
        if tuple(hidden.shape) != expected:
            raise ModelError(
                f"the body must return hidden states {expected} and a state, got "
                f"{tuple(hidden.shape)}"
            )
        return hidden, after

    def _sound(self, logs: Tensor) -> Tensor:
        """Check that log probabilities are not NaN, except during learning."""
        if not self._fitting and bool(logs.detach().isnan().any()):
            raise ModelError(NOT_A_NUMBER)
        return logs

    def _at(self, name: Hashable, rows: PairedSequences) -> Tensor:
        """Return ``(B, T, *event)`` values, with valid placeholders beyond the ends."""
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
                    f"{name!r} is missing in row {row}, step {step}, on which later steps depend",
                    "give complete sequences, or use SequenceCompletion()",
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
                "predict() and decode() need a single discrete variable",
                "sample() supports all variables",
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
        """See :class:`LearningVerbs`; sequences are read together with their inputs.

        Raises:
            DataError: If a step is missing.
        """
        try:
            rows = self.read(data, inputs)
            self._check_observed(rows)
        except EvidenceError as error:
            raise DataError(error.reason, error.advice) from None
        yield rows, None

    def predict(
        self, evidence: Any = None, steps: int = 1, *, inputs: Inputs | None = None
    ) -> Posterior:
        r"""Return probabilities of the next value, :math:`p(y_{t+1} \mid y_1, \dots, y_t)`.

        Args:
            evidence: Prefixes of any lengths.
            steps: Must be 1; later steps depend on each other and can be sampled.
            inputs: The input.

        Returns:
            The variable at the next step. If the model includes the end of sequences,
            ``diagnostics["end"]`` is the probability of no further step.

        Raises:
            Unsupported: If there are several variables, the variable is real, or ``steps`` is
                larger than 1.

        Cost: One pass over the steps.
        """
        from pgnn.inference.time.sequence_completion import SequenceCompletion

        if whole_number("steps", steps, 1, EvidenceError) > 1:
            name = next(iter(self.variables))
            raise Unsupported(
                f"predict() supports one step, got steps={steps!r}",
                f"draw continuations by sample(n, {{{name!r}: ..., 'T': length}})",
            )
        self.check_inputs(inputs)
        return SequenceCompletion().predict(self, evidence, inputs=inputs)

    def default_learner(self, data: Any) -> Learner:
        """Return Adam with batches of 32 rows and clipped gradients."""
        from pgnn.inference.learning.gradient import Gradient

        return Gradient.of_networks(rate=0.003, passes=30)

    def default_engine(self) -> Engine:
        """Return ``SequenceCompletion()``."""
        from pgnn.inference.time.sequence_completion import SequenceCompletion

        return SequenceCompletion()


def over_time(name: Hashable, states: Any, shape: tuple[int, ...] = ()) -> Variable:
    """Return a variable with a value at each step.

    Args:
        name: Name of the variable.
        states: Number or labels of states, such as the characters of a text; None if it is real.
        shape: Shape of a real value.
    """
    return Variable(name, [*states] if isinstance(states, str) else states, (AXIS, *shape))
