"""The guide of a program: its sites, and its executions, vectorised if possible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.randomness import kept_randomness, seeded_with
from pgnn.programs.handlers import (
    ParameterHandler,
    Visitor,
    execute,
    is_choice_of_rows,
    unchanged_globals,
    unchanged_settings,
)
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.sites import Kind, Site, site_of

if TYPE_CHECKING:
    from pgnn.programs.source import ProgramSource

_CLOSE = 1e-5
"""Relative tolerance for float32 programs evaluated in another order."""


def drawn_sites(
    program: Callable[[], Any], parameters: ProgramParameters, seed: int = 0
) -> dict[str, Site]:
    """Execute a guide or a program once and return its sites in order, deterministic ones too.

    Raises:
        ModelError: If a name occurs twice or a shape does not fit a plate.
    """
    visitor = _Sites()

    def run() -> None:
        seeded_with(seed)
        program()

    execute(run, visitor, parameters)
    return visitor.sites


def check_guide(
    guide: Callable[[], Any], sites: Mapping[str, Site], parameters: ProgramParameters
) -> frozenset[str]:
    """Check that the sites of a guide are sites of its program, and return their names.

    The real sites that a guide must have depend on the evidence of a query.

    Args:
        guide: The guide, its arguments bound.
        sites: Sites of the program.
        parameters: Parameters of both.

    Raises:
        ModelError: If the guide has other sites, or a shape differs; the message names the site.
    """
    drawn = drawn_sites(guide, parameters)
    for name, site in sites.items():
        if name in drawn and site.kind is not Kind.OBSERVED:
            _check_shapes(site, drawn[name])
    for name, site in drawn.items():
        if name not in sites and not site.auxiliary:
            raise ModelError(
                f"the guide has site {name!r}, which the model does not have",
                "rename it, or mark it by infer={'is_auxiliary': True}",
            )
    return frozenset(drawn)


def set_up(guide: Callable[[], Any], seed: int = 0) -> None:
    """Execute a guide that is a module once, so that Pyro's autoguides create their parameters."""
    with unchanged_globals():
        seeded_with(seed)
        guide()


class GuideRuns(NamedTuple):
    """A batch of executions of a guide.

    Attributes:
        values: ``(n, *shape)`` values of the variables; state indices of finite ones.
        log_q: ``(n,)`` log densities of the draws.
        reparameterised: Whether all draws are differentiable.
    """

    values: dict[Hashable, Tensor]
    log_q: Tensor
    reparameterised: bool


class GuideExecutions:
    """Executes the guide of a program, with torch's current random state.

    A batch of executions is one execution inside an additional plate, like Pyro's vectorised
    particles. The first call checks that single executions with the same draws have the same
    log densities.

    Args:
        source: Source of a program with a guide.
        observed: Observed variables; their draws from the guide are ignored.

    Attributes:
        together: Whether executions are vectorised; None before the check.
    """

    def __init__(self, source: ProgramSource, observed: Collection[Hashable] = ()) -> None:
        self.source, self.observed = source, frozenset(observed)
        self.together: bool | None = None

    def run(self, n: int) -> GuideRuns:
        """Execute the guide ``n`` times.

        Raises:
            ModelError: If the guide misses a real site of the model.
        """
        if n > 1 and self.together is None:
            self.together = self._fits(n)
        if n > 1 and self.together:
            return self._read(self._run_together(n), n)
        runs = [self._read(self._sites({}), 1) for _ in range(n)]
        values = {k: torch.cat([r.values[k] for r in runs]) for k in runs[0].values}
        log_q = torch.cat([r.log_q for r in runs])
        return GuideRuns(values, log_q, all(r.reparameterised for r in runs))

    def is_density(self) -> bool:
        """Whether the guide has a density; it has none if a real site is a point mass."""
        with kept_randomness(), torch.no_grad():
            sites = self._sites({})
        drawn = {n for n, s in sites.items() if type(s["fn"]).__name__ != "Delta"}
        if any(sites[n]["infer"].get("is_auxiliary", False) for n in drawn):
            return True
        return drawn.issuperset(self.source.site_names[n] for n in self.names)

    @property
    def names(self) -> tuple[Hashable, ...]:
        """The real variables that the guide draws, or must draw because others depend on them."""
        source, names = self.source, []
        for v in source.variables.values():
            site = source.site_names[v.name]
            needed = site in source.guide_sites or any(source.graph.successors(site))
            if needed and not v.is_discrete and v.name not in self.observed:
                names.append(v.name)
        return tuple(names)

    def _sites(
        self, held: Mapping[str, Tensor], around: Callable[..., Any] = lambda f: f
    ) -> dict[str, Any]:
        with _Conditioned(held):
            return _traced(around(self.source.guide), self.source.parameters)

    def _run_together(self, n: int) -> dict[str, Any]:
        """Return the sites of ``n`` vectorised executions."""
        return self._sites({}, pyro.plate("_executions", n, dim=-1 - self._depth))

    def _fits(self, n: int) -> bool:
        """Whether vectorised executions agree with single ones."""
        with kept_randomness(), torch.no_grad():
            alone = self._sites({})
            self._depth = max([len(s["fn"].batch_shape) for s in alone.values()], default=0)
            try:
                many = self._run_together(n)
                runs = self._read(many, n)
            except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
                return False
            return all(self._agrees(many, runs, alone, k) for k in (0, n - 1))

    def _agrees(
        self, many: Mapping[str, Any], runs: GuideRuns, alone: Mapping[str, Any], k: int
    ) -> bool:
        held = {
            name: many[name]["value"][k].reshape(site["value"].shape)
            for name, site in alone.items()
            if type(site["fn"]).__name__ != "Delta"
        }
        one = self._read(self._sites(held), 1)
        pairs = [(x[0], runs.values[n][k]) for n, x in one.values.items()]
        return all(
            torch.allclose(a.double(), b.double(), rtol=_CLOSE, atol=_CLOSE)
            for a, b in [*pairs, (one.log_q[0], runs.log_q[k])]
        )

    def _read(self, nodes: Mapping[str, Any], n: int) -> GuideRuns:
        """Return values and log densities of the sites of ``n`` executions."""
        source = self.source
        values: dict[Hashable, Tensor] = {}
        log_q = torch.zeros(n, dtype=torch.float64)
        for name, node in nodes.items():
            v = source.variables.get(source.names.get(name))
            if v is not None and v.name in self.observed:
                continue
            # masked sites keep their density, as in the model
            log_prob = node["unscaled_log_prob"] * node["scale"]
            log_q = log_q + log_prob.expand(node["log_prob"].shape).reshape(n, -1).sum(1)
            if v is None or node["infer"].get("is_auxiliary", False):
                continue
            value = node["value"]
            value = source.sites[name].codes(value) if v.is_discrete else value
            values[v.name] = value.reshape(n, *v.shape)
        for missing in self.names:
            if missing not in values:
                site = source.site_names[missing]
                raise ModelError(f"the guide has no site {site!r} of the model" + _has(nodes))
        return GuideRuns(values, log_q, all(s["fn"].has_rsample for s in nodes.values()))


class _Conditioned(Messenger):
    """Sets the values of sample statements."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def _traced(program: Callable[[], Any], parameters: ProgramParameters) -> dict[str, Any]:
    """Return the sample sites of one execution, as nodes of Pyro's trace."""
    with unchanged_settings(), ParameterHandler(parameters):
        trace = poutine.trace(program).get_trace()
        trace.compute_log_prob()
    return {
        n: node
        for n, node in trace.nodes.items()
        if node["type"] == "sample" and not is_choice_of_rows(node["fn"])
    }


class _Sites(Visitor):
    """Draws and records all sites."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """See :class:`Visitor`."""
        if name in self.sites:
            raise ModelError(f"site {name!r} occurs twice", "rename one of them")
        value = fn() if observed is None else observed
        self.sites[name] = site_of(name, fn, value, observed, message)
        return value


def _has(sites: Iterable[str]) -> str:
    return f"; it has {', '.join(repr(n) for n in sites) or 'none'}"


def _check_shapes(site: Site, other: Site) -> None:
    shapes = [(*s.sizes, *s.event) for s in (site, other)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"site {site.name!r} has shape {shapes[0]} in the model ({site.where()}) but "
            f"{shapes[1]} in the guide ({other.where()})"
        )
