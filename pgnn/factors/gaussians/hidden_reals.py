"""Which real variables of a directed model are hidden, and which are integrated out together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass

from pgnn.errors import Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.gaussians.component import GaussianComponent
from pgnn.factors.variable import Variable

Pieces = Mapping[Hashable, Conditional]

_REMEMBERED = 16
"""Patterns of the observations for which components are kept."""


@dataclass(frozen=True, eq=False)
class HiddenReals:
    """What becomes of the conditionals of real variables that some rows have not observed.

    Attributes:
        components: Variables that are integrated out, with all conditionals that have them.
        left_out: Names of variables that nobody saw and on which nothing depends: their
            conditionals integrate to one.
    """

    components: tuple[GaussianComponent, ...]
    left_out: frozenset[Hashable]

    @property
    def integrated(self) -> frozenset[Hashable]:
        """Names of the conditionals that the components have."""
        return frozenset(
            c.child.name for component in self.components for c in component.conditionals
        )

    @classmethod
    def of(
        cls,
        conditionals: Pieces,
        observed: Collection[Hashable],
        partly: Collection[Hashable],
        wanted: Collection[Hashable] = (),
    ) -> HiddenReals:
        """Sort the real variables of a directed model.

        Args:
            conditionals: Conditionals of every variable.
            observed: Names of the real variables that were observed.
            partly: Names of those among them that some row has not observed, or not all of.
            wanted: Names of the queried real variables.

        Raises:
            Unsupported: If a variable cannot be integrated out on which something depends.
        """
        reals = {n for n, c in conditionals.items() if not c.child.is_discrete}
        discrete = conditionals.keys() - reals
        needed = _with_ancestors(conditionals, {*discrete, *observed, *wanted})
        missing = (reals - {*observed} | {*partly}) & needed
        children = _children(conditionals, missing, needed)
        hidden = {
            n for n in missing
            if n in wanted or n not in observed or children[n] or _has_real(conditionals[n],
            missing)
        }  # fmt: skip
        for name in conditionals:
            if name in hidden:
                _check(conditionals[name], children[name], name in observed, name in wanted)
        return cls(_components(conditionals, hidden, needed), frozenset(reals - needed))


class RememberedReals:
    """Determines how the hidden reals of a model are treated; cached for recent patterns."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, HiddenReals] = OrderedDict()

    def of(
        self,
        conditionals: Pieces,
        observed: Collection[Hashable],
        partly: Collection[Hashable],
        wanted: Collection[Hashable] = (),
    ) -> HiddenReals:
        """Return :meth:`HiddenReals.of` of these arguments."""
        key = (frozenset(observed), frozenset(partly), frozenset(wanted))
        if key not in self._known:
            self._known[key] = HiddenReals.of(conditionals, observed, partly, wanted)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def _with_ancestors(conditionals: Pieces, names: Iterable[Hashable]) -> set[Hashable]:
    """Some variables, and all that they depend on."""
    reached = {*names}
    todo = [*reached]
    while todo:
        for v in conditionals[todo.pop()].parents:
            if v.name not in reached:
                reached.add(v.name)
                todo.append(v.name)
    return reached


def _children(
    conditionals: Pieces, names: Collection[Hashable], needed: Collection[Hashable]
) -> dict[Hashable, list[Conditional]]:
    """The conditionals that matter of the children of some variables."""
    children: dict[Hashable, list[Conditional]] = {n: [] for n in names}
    for name, conditional in conditionals.items():
        if name in needed:
            for v in conditional.parents:
                if v.name in children:
                    children[v.name].append(conditional)
    return children


def _has_real(conditional: Conditional, names: Collection[Hashable]) -> bool:
    return any(not v.is_discrete and v.name in names for v in conditional.parents)


def _check(
    conditional: Conditional, children: list[Conditional], observed: bool, wanted: bool
) -> None:
    """Check that a hidden variable can be integrated out.

    Raises:
        Unsupported: If it can't.
    """
    name = conditional.child.name
    bad = next((c for c in children if not c.is_linear_gaussian), None)
    if bad is None and conditional.is_linear_gaussian:
        return
    if bad is None and not children:
        if wanted:
            raise Unsupported(
                f"{name!r} has no states, and its {type(conditional).__name__} is not linear "
                "Gaussian: it has no posterior in closed form",
                "use ExecutionSampling(), "
                "or, where it is real and no count, Variational() or MCMC()",
            )
        return  # a hidden parent is refused
    child = (children[0] if bad is None else bad).child.name
    if observed:
        raise Unsupported(
            f"{name!r} has no states and is missing in some rows, but {child!r} depends on it",
            "ask about the rows in which it was observed, or use a sampling engine",
        )
    raise without_sum(name, child)


def without_sum(name: Hashable, child: Hashable) -> Unsupported:
    """Return the error for a hidden variable on which another depends, and over which no sum is."""
    return Unsupported(
        f"{name!r} has no states and is not observed, and {child!r} depends on it: the sum over "
        "it has no table",
        "give it as evidence, or use engine=pgnn.ExecutionSampling(), or, where "
        "it is real and no count, Variational(), which also finds the most probable reals of "
        "targets=, or MCMC(); learn with Variational(), or with "
        "LowerBound() if the model has a recognition network",
    )


def _components(
    conditionals: Pieces, hidden: Collection[Hashable], needed: Collection[Hashable]
) -> tuple[GaussianComponent, ...]:
    """Hidden variables that occur in common conditionals, with these."""
    parts: dict[Hashable, _Part] = {}
    for name, conditional in conditionals.items():
        reals = [v for v in conditional.scope if v.name in hidden]
        if name not in needed or not reals:
            continue
        touched = {id(p): p for v in reals if (p := parts.get(v.name)) is not None}
        part, *others = sorted(touched.values(), key=lambda p: -len(p.variables)) or [_Part()]
        for other in others:
            part.take(other)
            parts.update(dict.fromkeys(other.variables, part))
        part.conditionals.append(conditional)
        for v in reals:
            part.variables[v.name] = v
            parts[v.name] = part
    place = {n: k for k, n in enumerate(conditionals)}
    distinct = {id(p): p for p in parts.values()}
    return tuple(p.component(place) for p in distinct.values())


class _Part:
    """A component while it grows."""

    def __init__(self) -> None:
        self.conditionals: list[Conditional] = []
        self.variables: dict[Hashable, Variable] = {}

    def take(self, other: _Part) -> None:
        """Add another one."""
        self.conditionals += other.conditionals
        self.variables |= other.variables

    def component(self, place: Mapping[Hashable, int]) -> GaussianComponent:
        """Return it, everything in the order of the model."""
        conditionals = sorted(self.conditionals, key=lambda c: place[c.child.name])
        discrete = {v.name: v for c in conditionals for v in c.parents if v.is_discrete}
        return GaussianComponent(
            tuple(conditionals),
            tuple(sorted(self.variables.values(), key=lambda v: place[v.name])),
            tuple(sorted(discrete.values(), key=lambda v: place[v.name])),
        )
