"""Stacked autoencoders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pgnn.abilities import StackedModel
from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.heads import PointMassHead
from pgnn.factors.conditionals.neural import Neural
from pgnn.factors.network_precision import run
from pgnn.factors.piece import Settings
from pgnn.models.autoencoder import Autoencoder, Corrupted

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class StackedAutoencoder(Autoencoder, StackedModel):
    r"""A deep autoencoder, each stage of which encodes the codes of the one below.

    .. math:: f = f_L \circ \dots \circ f_1, \qquad
        p(x \mid z) = p_1\big(x \mid g_2(\dots g_L(z))\big)

    where :math:`f_k` is the encoder of stage :math:`k` and :math:`g_k` the mean of its decoder.
    :meth:`fit` learns stage by stage from below, then the whole (:class:`~pgnn.GreedyLayerwise`).
    The stages share their networks with the whole; corruptions and contractions apply while stages
    are learned. Use :meth:`encoder` as the first layers of a classifier.

    Args:
        stages: Autoencoders, the lowest first; the data of each has the shape of the codes below.

    Raises:
        ModelError: If a stage is not an autoencoder, is given twice, or has a wrong shape.

    References:
        Bengio, Lamblin, Popovici and Larochelle (2007), Greedy layer-wise training of deep
        networks. Hinton and Salakhutdinov (2006), Reducing the dimensionality of data with neural
        networks. Vincent et al. (2010), Stacked denoising autoencoders.

    Example:
        >>> import pgnn
        >>> import torch
        >>> def stage(inside: int, outside: int) -> Autoencoder:
        ...     encoder = nn.Sequential(nn.Linear(outside, inside), nn.Sigmoid())
        ...     decoder = nn.Linear(inside, outside)
        ...     return pgnn.Autoencoder(encoder, decoder, pgnn.NormalHead((outside,), 1.0), inside)
        >>> rows = torch.rand(64, 6, generator=torch.Generator().manual_seed(0))
        >>> learner = pgnn.GreedyLayerwise(pgnn.LowerBound(max_iterations=2))
        >>> model = StackedAutoencoder([stage(4, 6), stage(2, 4)]).fit(rows, learner=learner)
        >>> model.encode(rows).mean.shape
        torch.Size([64, 2])
    """

    def __init__(self, stages: Sequence[Autoencoder]) -> None:
        _check_stages(stages)
        bottom, top = stages[0], stages[-1]
        z, x = top.recognition[top.latent].child, bottom.conditionals[bottom.vector].child
        decoder: Any = bottom.conditionals[bottom.vector]
        if not isinstance(decoder, Neural):
            raise ModelError(f"the decoder of {x.name!r} must be a network, got {decoder!r}")
        if x.name == z.name:
            raise ModelError(
                f"the data of the lowest stage and the code of the highest one are both {x.name!r}",
                "give one another name, by latent_name=",
            )
        super().__init__(
            Neural(z, [x], _Coding(stages), head=PointMassHead(z.shape)),
            Neural(x, [z], _Decoding(stages), head=decoder.head),
            prior=top.conditionals[top.latent],
        )
        self._stages = nn.ModuleList(stages)

    def settings(self) -> Settings:
        """Return the stages."""
        return {"stages": (*self._stages,)}

    @property
    def num_stages(self) -> int:
        """See :class:`StackedModel`."""
        return len(self._stages)

    def stage(self, k: int) -> Autoencoder:
        """Return the autoencoder of a stage, which shares its networks with the whole."""
        stage = self._stages[k]
        assert isinstance(stage, Autoencoder)
        return stage

    def take_stage(self, k: int, stage: Autoencoder) -> None:
        """See :class:`StackedModel`; nothing to do, since networks are shared."""

    def read_stack(self, data: Any, learner: Any) -> tuple[Tensor, Any]:
        """See :class:`StackedModel`."""
        return self._rows(data), learner

    def stage_outputs(self, stage: Autoencoder, rows: Tensor) -> Tensor:
        """See :class:`StackedModel`; the codes."""
        codes: Tensor = stage.encode(rows).mean
        return codes

    def encoder(self) -> nn.Module:
        """Return the network from data ``(B, *shape)`` to codes."""
        coding: Any = self.recognition[self.latent]
        network: nn.Module = coding.module
        return network

    def default_learner(self, data: Any) -> Learner:
        """Return ``GreedyLayerwise`` with fine-tuning."""
        from pgnn.inference.learning.greedy_layerwise import GreedyLayerwise

        return GreedyLayerwise(fine_tuning=super().default_learner(data))


class _Coding(nn.Module):
    """The network from data to the codes of the highest of some stages, without corruptions."""

    def __init__(self, stages: Sequence[Autoencoder]) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_without_corruption(s.recognition[s.latent]) for s in stages])

    def forward(self, x: Tensor) -> Tensor:
        """Return codes ``(B, *shape)``."""
        for conditional in self.stages:
            x = _mean(conditional, x)
        return x


class _Decoding(nn.Module):
    """The network from the codes of the highest of some stages to the likelihood of the lowest."""

    def __init__(self, stages: Sequence[Autoencoder]) -> None:
        super().__init__()
        self.stages = nn.ModuleList([s.conditionals[s.vector] for s in stages])

    def forward(self, z: Tensor) -> Any:
        """Return the decoder output of the lowest stage."""
        lowest: Any = self.stages[0]
        for conditional in reversed(self.stages[1:]):
            z = _mean(conditional, z)
        return run(lowest.module, lowest.features(lowest.parents, {lowest.parents[0].name: z}))


def _mean(conditional: Any, value: Tensor) -> Tensor:
    """Return the mean of a conditional of one parent."""
    mean: Tensor = conditional.distribution({conditional.parents[0].name: value}).mean
    return mean


def _without_corruption(conditional: Conditional) -> Conditional:
    if not isinstance(conditional, Neural) or not isinstance(conditional.module, Corrupted):
        return conditional
    settings = conditional.settings()
    return type(conditional)(**settings | {"module": conditional.module[-1]})


def _check_stages(stages: Any) -> None:
    if not isinstance(stages, list | tuple) or not stages:
        raise ModelError(f"stages must be a list of autoencoders, got {stages!r}")
    for k, stage in enumerate(stages):
        if not isinstance(stage, Autoencoder) or stage.input_names:
            raise ModelError(
                f"stage {k} must be an Autoencoder without inputs, got {type(stage).__name__}"
            )
    if len({id(s) for s in stages}) < len(stages):
        raise ModelError("an autoencoder is given twice", "create one for each stage")
    for k, (below, above) in enumerate(pairwise(stages), 1):
        code, data = below.variables[below.latent].shape, above.variables[above.vector].shape
        if code != data:
            raise ModelError(
                f"stage {k} has data of shape {data}, and the codes of the stage below are of "
                f"shape {code}"
            )
