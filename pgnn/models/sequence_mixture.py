"""Mixtures of models over time: sequences of several kinds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pgnn.abilities import Inputs, MixtureOverTime, UnrollableModel
from pgnn.errors import ModelError
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.sequence_labels import split_labels
from pgnn.models.model import Model
from pgnn.models.model_mixture import ModelMixture, check_variables
from pgnn.models.sequence_model import SequenceModel

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine


class SequenceMixture(SequenceModel, ModelMixture, MixtureOverTime):
    r"""A mixture of models over time; each sequence is from one of its components.

    .. math:: p(x_{1:T}) = \sum_k \pi_k\, p_k(x_{1:T})

    ``model.query("component", rows)`` gives the responsibilities :math:`p(k \mid x_{1:T})`, and
    ``model.filter(rows, "component")`` those after each step; ``decode`` returns the component and
    the path that are most probable together. Answers about states and observations are those of the
    components, weighted by the responsibilities: state 0 of one component and state 0 of another
    are the same value of a variable. Learning is by :class:`EM`, see
    :class:`~pgnn.models.model_mixture.ModelMixture`. Sequences may be labelled with their
    component, all or some of them: ``fit({"component": [0, 1, None], "x": ...})``.

    Args:
        components: The models over time, all over the same variables.
        weights: ``(K,)`` their probabilities; learnable if not given.
        labels: Names of the components; indices if not given.
        name: Name of the component variable, which has one value for each sequence.

    Raises:
        ModelError: If there are no components, one is not a model over time, or variables differ.

    References:
        Smyth (1997), Clustering sequences with hidden Markov models.

    Example:
        >>> import pgnn
        >>> def chain(stay):
        ...     moves = [[stay, 1 - stay], [1 - stay, stay]]
        ...     return pgnn.HiddenMarkovModel(2, {"x": [[0.9, 0.1], [0.1, 0.9]]}, [0.5, 0.5], moves)
        >>> model = SequenceMixture([chain(0.9), chain(0.1)], [0.5, 0.5], labels=["calm", "wild"])
        >>> model.query("component", {"x": [0, 0, 0, 1, 1, 1]})["component"].probs
        tensor([0.8776, 0.1224], dtype=torch.float64)
        >>> model.decode({"x": [0, 1, 0, 1]})["component"]
        'wild'
    """

    def _check_component(self, component: Any) -> None:
        """Check that a component is a model over time."""
        if not isinstance(component, Model):
            raise ModelError(f"a component must be a model, got {type(component).__name__}")
        if not isinstance(component, UnrollableModel):
            raise ModelError(
                f"{type(self).__name__} is for models over time, such as HiddenMarkovModel, and a "
                f"{type(component).__name__} is one of rows",
                "use ModelMixture",
            )

    @property
    def hidden(self) -> list[Hashable]:
        """Names of the component and of the hidden states."""
        return [self.class_name, *self.components[0].hidden]

    def covariates(
        self, inputs: Inputs | None, observed: SequenceEvidence
    ) -> dict[Hashable, Tensor]:
        """Return the covariates of all components, see :class:`UnrollableModel`."""
        covariates: dict[Hashable, Tensor] = {}
        for c in self.components:
            covariates |= c.covariates(c.own_inputs(inputs), observed)
        return covariates

    def input_lengths(self, inputs: Inputs | None, *, alone: bool = False) -> Any:
        """Return the lengths given by inputs of a component, see :class:`UnrollableModel`."""
        lengths = (c.input_lengths(c.own_inputs(inputs), alone=alone) for c in self.components)
        return next((x for x in lengths if x is not None), None)

    def unroll(self, steps: int) -> ModelMixture:
        """Return the mixture of the components over a number of steps."""
        parts = [c.unroll(steps) for c in self.components]
        return ModelMixture(
            parts, self.weights, labels=self.weights.child.states, name=self.class_name
        )

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`; the data tell what components did not declare."""
        rest, _ = split_labels(self.sequence_label, data)
        with ExitStack() as stack:
            for c in self.components:
                stack.enter_context(c._declared_by(rest, weights, c.own_inputs(inputs)))
            check_variables(self.components, self.class_name)
            yield data, inputs

    def default_engine(self) -> Engine:
        """Return ``SequencesByComponent()``."""
        from pgnn.inference.time.sequences_by_component import SequencesByComponent

        return SequencesByComponent()
