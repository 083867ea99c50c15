"""Scores of labels that are linear in named attributes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgnn.errors import DataError, EvidenceError
from pgnn.evidence.name_index import NONE, NameIndex
from pgnn.evidence.step_attributes import StepAttributes, sequence_lengths
from pgnn.factors.piece import MAX_LEARNABLE, Settings
from pgnn.limits import Interval, check_real, check_size, whole_number
from pgnn.models.scores.step_scores import Covariates, StepScores

if TYPE_CHECKING:
    from pgnn.inference.chains.attribute_sums import AttributeSums

Ints = NDArray[np.int64]

_AT_ONCE = 2**18
"""Number of attributes that are processed at once."""


class AttributeScores(StepScores):
    r"""Weights of attributes, :math:`f_t(k; x) = \sum_{a \in x_t} v_a w_{a k}`.

    The attributes of a step are names, such as ``["w=dog", "suffix=og"]``, or a mapping of names
    to values, see :class:`~pgnn.evidence.step_attributes.StepAttributes`. There is a weight for
    each pair of an attribute and a label that occurs in the training data. Attributes without
    weights are ignored.

    Args:
        input_name: Name of the input.
        min_count: Minimum number of occurrences in the training data; rarer attributes have no
            weight.
        all_pairs: Whether each attribute has a weight for each label, including pairs that do
            not occur.
        dropout: Dropout probability of the attributes of each step during a fit; the others are
            scaled up. It keeps a network in the same field from being ignored.

    Attributes:
        names: The attributes that have weights.
        weights: ``(P,)`` learnable weights of the pairs ``(pair_names[i], pair_labels[i])``.

    References:
        Lafferty, McCallum and Pereira (2001), Conditional random fields: probabilistic models for
        segmenting and labeling sequence data, section 3.

    Example:
        >>> empty = AttributeScores("words", all_pairs=True)
        >>> scores = empty.prepared([[["a"], ["b"]]], torch.tensor([0, 1]), 2)
        >>> scores.names, scores.weights.shape
        (('a', 'b'), torch.Size([4]))
    """

    pair_names: Tensor
    pair_labels: Tensor

    def __init__(
        self,
        input_name: Hashable = "attributes",
        min_count: int = 1,
        all_pairs: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_real("dropout", dropout, Interval(0.0, 1.0, open_high=True))
        self.input_name, self.all_pairs, self.dropout = input_name, all_pairs, dropout
        self.min_count = whole_number("min_count", min_count, least=1)
        self.num_labels = 0
        self._set(_index(()), np.zeros((2, 0), dtype=np.int64))

    @property
    def scope(self) -> tuple[Any, ...]:
        """Empty: the field that contains the scores declares the variables."""
        return ()

    def settings(self) -> Settings:
        """Return the constructor arguments and the names of the attributes."""
        return {
            "input_name": self.input_name,
            "min_count": self.min_count,
            "all_pairs": self.all_pairs,
            "dropout": self.dropout,
            "names": self.names,
            "num_labels": self.num_labels,
        }

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create the scores from their pairs, which are stored with the parameters."""
        names, num_labels = settings.pop("names"), settings.pop("num_labels")
        scores = cls(**settings)
        scores.num_labels = num_labels
        pairs = torch.stack([numbers["pair_names"], numbers["pair_labels"]])
        scores._set(_index(names), pairs.numpy(force=True))
        return scores

    @classmethod
    def of_weights(
        cls, names: Sequence[Hashable], pairs: Ints, weights: Any, num_labels: int
    ) -> Self:
        """Return scores with given constant weights.

        Args:
            names: Attributes.
            pairs: ``(2, P)`` indices of an attribute and a label, in ascending order.
            weights: ``(P,)`` weights of these pairs.
            num_labels: Number of labels ``K``.
        """
        scores = cls()
        scores.num_labels = num_labels
        scores._set(_index(names), pairs)
        scores.weights = nn.Parameter(torch.as_tensor(weights), requires_grad=False)
        return scores

    def read(self, raw: Any) -> Any:
        """Return the attributes with an index of their names."""
        if isinstance(raw, Tensor):
            return raw
        return StepAttributes.read(self.input_name, raw, _index(()), grows=True)

    def read_known(self, raw: Any) -> StepAttributes:
        """Return the attributes that have weights."""
        return StepAttributes.read(self.input_name, raw, self._index)

    def prepared(self, raw: Any, codes: Tensor, num_labels: int) -> AttributeScores:
        """Return scores with weights for the attributes in the data, the most frequent first.

        Raises:
            DataError: If no attribute is frequent enough.
        """
        attributes: StepAttributes = self.read(raw)
        occurrences = attributes.occurrences()
        order = np.argsort(-occurrences, kind="stable")
        order = order[occurrences[order] >= self.min_count]
        if not len(order):
            raise DataError(
                f"the input {self.input_name!r} has no attribute that occurs {self.min_count} "
                "times: there is nothing to learn from"
            )
        check_size(
            f"weights of {len(order):,} attributes and {num_labels} labels",
            8 * len(order) * num_labels,
            MAX_LEARNABLE,
            "Raise min_count",
        )
        scores = AttributeScores(self.input_name, self.min_count, self.all_pairs, self.dropout)
        scores.num_labels = num_labels
        place = np.full(len(occurrences), NONE, dtype=np.int32)
        place[order] = np.arange(len(order))
        index = attributes.index.renumbered(order.tolist())
        known = codes.numpy(force=True).astype(np.int32)
        if self.all_pairs or (known < 0).any():
            pairs = np.ones((len(index), num_labels), dtype=bool)
        else:
            pairs = _co_occurring(place[attributes.which], np.repeat(known, attributes.counts),
                              (len(index), num_labels))  # fmt: skip
        scores._set(index, np.stack(pairs.nonzero()))
        return scores.to(self.weights.device, self.weights.dtype)

    def _set(self, index: NameIndex, pairs: Ints) -> None:
        self.names = tuple(index.names)
        self._index = index
        self.register_buffer("pair_names", torch.from_numpy(pairs[0].copy()))
        self.register_buffer("pair_labels", torch.from_numpy(pairs[1].copy()))
        self.weights = nn.Parameter(torch.zeros(pairs.shape[1], dtype=torch.float64))

    @property
    def is_unset(self) -> bool:
        """Whether the attributes have not been read from training data yet."""
        return not self.names or super().is_unset

    def lengths(self, raw: Any) -> Any:
        """Return the lengths of the sequences, or None if ``raw`` is a tensor of indices."""
        return None if isinstance(raw, Tensor) else sequence_lengths(self.input_name, raw)

    def covariates(self, raw: Any, shape: tuple[int, int], batched: bool) -> Covariates:
        """Return ``(B, T, A)`` attribute indices, and attribute values if they are not all one."""
        if isinstance(raw, Tensor):
            return {self.input_name: self._checked(raw, shape)}
        attributes = self.read_known(raw)
        numbers = attributes.numbers(self._index)
        counts = attributes.counts
        width = int(counts.max(initial=0))
        check_size(f"attributes of {shape[0]:,} sequences", 4 * shape[0] * shape[1] * width)
        inside = np.arange(shape[1]) < attributes.lengths[:, None]
        present = np.arange(width) < counts[:, None]
        result: Covariates = {self.input_name: _spread(numbers, present, inside, NONE)}
        if attributes.values is not None:
            result[self.values_name] = _spread(attributes.values, present, inside, 0)
        return result

    @property
    def values_name(self) -> Hashable:
        """Name of the attribute values among the covariates."""
        return self.input_name, "values"

    @property
    def input_names(self) -> tuple[Hashable, ...]:
        """Names of the attribute indices and of the attribute values."""
        return self.input_name, self.values_name

    def _checked(self, numbers: Tensor, shape: tuple[int, int]) -> Tensor:
        if numbers.is_floating_point() or numbers.shape[:2] != shape or numbers.dim() != 3:
            raise EvidenceError(
                f"the input {self.input_name!r} must be lists of attributes, or their indices as "
                f"integers {(*shape, 'A')}, got {numbers.dtype} {tuple(numbers.shape)}"
            )
        return numbers

    def scores(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Tensor:
        """Return ``(N, K)``, see the base class."""
        return self.scorer(covariates, inside)()

    def scorer(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Callable[[], Tensor]:
        """See the base class; steps are selected once, or at each call if there is dropout."""
        all_sums = self._sums(covariates, inside)
        if self._uses_dropout:
            return lambda: self._dropout_scorer(all_sums)()
        return self._scorer(all_sums)

    def _scorer(self, all_sums: AttributeSums) -> Callable[[], Tensor]:
        """Return a function that computes ``(N, K)`` scores from the weights of the attributes."""
        from pgnn.inference.chains.attribute_sums import AttributeSums

        if all_sums.is_dense:
            return lambda: all_sums(self.weights)
        numbers, (pair_names, pair_labels) = all_sums.numbers, all_sums.pairs
        used, local = torch.unique(numbers.clamp_min(0), return_inverse=True)
        chosen = _ranges(*(torch.searchsorted(pair_names, used, right=r) for r in (False, True)))
        names = torch.searchsorted(used, pair_names[chosen])
        sums = AttributeSums(
            torch.where(numbers < 0, NONE, local).to(torch.int32),
            all_sums.values,
            torch.stack([names, pair_labels[chosen]]),
            (len(used), self.num_labels),
        )
        return lambda: sums(self.weights[chosen])

    @property
    def _uses_dropout(self) -> bool:
        """Whether attributes are dropped at random."""
        return self.training and self.dropout > 0.0

    def _dropout_scorer(self, sums: AttributeSums) -> Callable[[], Tensor]:
        """Return a function that computes ``(N, K)`` scores with dropout."""
        from pgnn.inference.chains.attribute_sums import AttributeSums

        kept = torch.rand(sums.numbers.shape, device=sums.numbers.device) >= self.dropout
        numbers = sums.numbers.masked_fill(~kept, NONE)
        score = self._scorer(AttributeSums(numbers, sums.values, sums.pairs, sums.shape))
        return lambda: score() / (1.0 - self.dropout)

    def attribute_sums(
        self, covariates: Mapping[Hashable, Tensor], inside: Tensor
    ) -> AttributeSums | None:
        """Return the sums over all attributes, see the base class; None during dropout."""
        return None if self._uses_dropout else self._sums(covariates, inside)

    def _sums(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> AttributeSums:
        """Return the sums over all attributes."""
        from pgnn.inference.chains.attribute_sums import AttributeSums

        numbers, values = covariates[self.input_name], covariates.get(self.values_name)
        pairs, shape = (self.pair_names, self.pair_labels), (len(self.names), self.num_labels)
        return AttributeSums(numbers, values, pairs, shape, inside.to(numbers.device))

    @property
    def attribute_weights(self) -> Tensor:
        """The weights, see the base class."""
        return self.weights

    def extra_repr(self) -> str:
        """Return the contents of the parentheses of ``repr``."""
        return f"{self.input_name!r}, {len(self.names)} attributes, {self.weights.numel()} weights"


def _index(names: Iterable[Hashable]) -> NameIndex:
    """Return an index of names, without a limit on their number."""
    from pgnn.inference.chains.text_index import TextIndex

    return TextIndex(names)


def _co_occurring(numbers: Any, labels: Any, shape: tuple[int, int]) -> Any:
    """Return ``(A, K)`` whether an attribute and a label co-occur, in chunks to save memory."""
    pairs = np.zeros(shape, dtype=bool)
    for begin in range(0, len(numbers), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        known = numbers[part] >= 0
        pairs[numbers[part][known], labels[part][known]] = True
    return pairs


def _spread(flat: Any, present: Any, inside: Any, fill: float) -> Tensor:
    """Scatter the flat attributes of consecutive steps to ``(B, T, A)``."""
    rows = np.full(present.shape, fill, dtype=flat.dtype)
    rows[present] = flat
    spread = np.full((*inside.shape, present.shape[1]), fill, dtype=flat.dtype)
    spread[inside] = rows
    return torch.from_numpy(spread)


def _ranges(begin: Tensor, end: Tensor) -> Tensor:
    """Return the concatenated ranges from each ``begin`` to each ``end``."""
    sizes = end - begin
    offset = begin - (sizes.cumsum(0) - sizes)
    return torch.arange(int(sizes.sum()), device=begin.device) + offset.repeat_interleave(sizes)
