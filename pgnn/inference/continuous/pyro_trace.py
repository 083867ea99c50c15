"""Executions of a program as traces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pgnn.abilities import ExecutableModel
from pgnn.factors.randomness import kept_randomness, private_randomness
from pgnn.inference.continuous.coordinates import Support
from pgnn.inference.continuous.supports import support_of


def has_guide(model: Any) -> bool:
    """Whether a model is a program with a guide."""
    return isinstance(model, ExecutableModel) and model.guide is not None


def supports_of_sites(model: Any, seed: int) -> dict[Any, Support]:
    """Return the supports of the real latent sites, from one execution of the program."""
    source = model._source
    with private_randomness(seed), torch.no_grad():
        nodes = _trace(source.model, model.own)
    return {
        source.names[n]: Support(
            support_of(node["fn"]), node["value"].dtype, tuple(node["value"].shape)
        )
        for n, node in nodes.items()
        if n in source.names and not model.variables[source.names[n]].is_discrete
    }


def site_without_density(model: Any, values: Mapping[Hashable, Tensor]) -> str | None:
    """Return the first site whose log probability is not finite, real latents held; or None.

    Args:
        model: A program.
        values: ``(*shape)`` of its real latent variables.
    """
    source = model._source
    held = {}
    for name, x in values.items():
        site = source.sites[source.site_names[name]]
        held[site.name] = x.detach().reshape(site.value.shape)
    with kept_randomness(), torch.no_grad():
        nodes = _trace(poutine.condition(source.model, data=held), model.own)
    for name, node in nodes.items():
        if not bool(torch.isfinite(node["log_prob_sum"])):
            return name
    return None


def _trace(program: Callable[[], Any], parameters: Any) -> dict[str, Any]:
    """The sample sites of one execution."""
    with _private(), _Parameters(parameters):
        trace = poutine.trace(program).get_trace()
        trace.compute_log_prob()
    return {
        n: node
        for n, node in trace.nodes.items()
        if node["type"] == "sample" and type(node["fn"]).__name__ != "_Subsample"
    }


class _Parameters(Messenger):
    """Gives ``pyro.param`` statements what the model keeps."""

    def __init__(self, parameters: Any) -> None:
        super().__init__()
        self.parameters = parameters

    def _pyro_param(self, msg: Any) -> None:
        value = self.parameters.value(msg["name"], msg["args"], msg["kwargs"])
        if value is not None:
            msg["value"], msg["done"] = value, True


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Pyro's global parameters and settings are afterwards as before."""
    checked = torch.distributions.Distribution._validate_args
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        try:
            yield
        finally:
            torch.distributions.Distribution.set_default_validate_args(checked)
