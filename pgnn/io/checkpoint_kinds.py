"""The kinds of conditionals that a checkpoint knows how to make again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pgnn.errors import DataError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.emission import Emission
from pgnn.factors.conditionals.neural import BernoulliHead, ByName, Concatenate, Neural, NormalHead
from pgnn.factors.conditionals.noisy_or import NoisyMax, NoisyOr
from pgnn.factors.conditionals.sigmoid import Sigmoid
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable
from pgnn.io.checkpoint_emissions import EMISSIONS, describe_emission, make_emission
from pgnn.io.labels import decode, encode

_KINDS: dict[str, type[Conditional]] = {
    kind.__name__: kind
    for kind in (Tabular, Sigmoid, NoisyOr, NoisyMax, Softmax, Neural, *EMISSIONS)
}
_FEATURES: dict[str, Callable[[], Any]] = {"Concatenate": Concatenate, "ByName": ByName}


def describe_conditional(
    conditional: Conditional, numbers: Mapping[Hashable, int]
) -> dict[str, Any]:
    """Describe a conditional, all but its numbers, by what JSON can hold.

    Args:
        conditional: The conditional.
        numbers: Position of every variable in the list that is saved.

    Raises:
        DataError: If the name of an input cannot be saved.
    """
    kind = type(conditional)
    described: dict[str, Any] = {
        "kind": kind.__name__,
        "known": kind in _KINDS.values(),
        "child": numbers[conditional.child.name],
        "parents": [numbers[v.name] for v in conditional.parents],
        "constant": [name for name, p in conditional.named_parameters() if not p.requires_grad],
    }
    if isinstance(conditional, Softmax):
        shapes = conditional.input_shapes.items()
        described["inputs"] = [[encode(name), list(shape)] for name, shape in shapes]
    if isinstance(conditional, Emission) and described["known"]:
        described["settings"] = describe_emission(conditional)
        described["known"] = described["settings"] is not None
    if isinstance(conditional, Neural):
        described["inputs"] = [encode(name) for name in conditional.inputs]
        described["head"] = _describe_head(conditional.head)
        features = type(conditional.features)
        described["features"] = features.__name__ if features in _FEATURES.values() else None
        described["known"] &= described["head"] is not None and described["features"] is not None
    return described


def make_conditional(
    described: Mapping[str, Any],
    variables: Sequence[Variable],
    state: Mapping[str, Tensor],
    modules: dict[Hashable, nn.Module],
) -> Conditional:
    """Make a conditional of its description and its numbers.

    Args:
        described: What :func:`describe_conditional` returned.
        variables: The variables that were saved.
        state: The conditional's tensors by name.
        modules: Networks and conditionals from the caller, by child; the one used is taken out.

    Raises:
        DataError: If a module is needed and missing, or does not fit.
    """
    child = variables[described["child"]]
    parents = [variables[k] for k in described["parents"]]
    kind = described["kind"]
    if not described["known"] or kind == "Neural":
        conditional = _from_caller(described, child, parents, modules)
    elif kind not in _KINDS:
        raise DataError(f"{child.name!r} has a conditional of the unknown kind {kind!r}")
    elif kind == "Tabular":
        conditional = Tabular(child, parents, state["logits"].softmax(-1))
    elif kind == "Softmax":
        inputs = {decode(name): decode(shape) for name, shape in described["inputs"]}
        conditional = Softmax(child, parents, inputs=inputs)
    elif "settings" in described:
        conditional = make_emission(kind, child, parents, described["settings"])
    else:
        conditional = _KINDS[kind](child, parents)
    fill(conditional, f"the conditional of {child.name!r}", state, described["constant"])
    return conditional


def _from_caller(
    described: Mapping[str, Any],
    child: Variable,
    parents: Sequence[Variable],
    modules: dict[Hashable, nn.Module],
) -> Conditional:
    """Use a module of the caller's, or a whole conditional where only that will do."""
    kind, known = described["kind"], described["known"]
    wanted = f"a {kind} conditional" if not known else "its torch module"
    if child.name not in modules:
        raise DataError(
            f"{child.name!r} has a {kind} conditional, whose code is not in the file; "
            f"pass modules={{{child.name!r}: ...}} with {wanted}"
        )
    module = copy.deepcopy(modules.pop(child.name))
    if isinstance(module, Conditional):
        if type(module).__name__ != kind or module.scope != (*parents, child):
            raise DataError(
                f"modules[{child.name!r}]: expected a {kind} of {[v.name for v in parents]} -> "
                f"{child.name!r} with the saved states, got {type(module).__name__}({module!r})"
            )
        return module
    if not known:
        raise DataError(f"modules[{child.name!r}]: expected {wanted}, got a bare module")
    inputs = [decode(name) for name in described["inputs"]]
    head, features = _make_head(described["head"]), _FEATURES[described["features"]]()
    return Neural(child, parents, module, inputs, head, features)


def _describe_head(head: Any) -> dict[str, Any] | None:
    if head is None:
        return {"kind": "none"}
    if type(head) is BernoulliHead:
        return {"kind": "BernoulliHead", "shape": list(head.shape)}
    if type(head) is NormalHead and isinstance(head.scale, float | int | None):
        return {"kind": "NormalHead", "shape": list(head.shape), "scale": head.scale}
    return None


def _make_head(described: Mapping[str, Any]) -> Any:
    if described["kind"] == "NormalHead":
        return NormalHead(described["shape"], described["scale"])
    return BernoulliHead(described["shape"]) if described["kind"] == "BernoulliHead" else None


def fill(
    module: nn.Module, what: str, state: Mapping[str, Tensor], constant: Sequence[str]
) -> None:
    """Put the saved numbers in, with the saved dtype; tied parameters stay tied.

    Args:
        module: A conditional or potential of the saved kind.
        what: What messages call it.
        state: Its tensors by name.
        constant: Names of the parameters that want no gradient.

    Raises:
        DataError: If it has other tensors.
    """
    own = module.state_dict(keep_vars=True)
    if set(own) != set(state):
        missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        raise DataError(
            f"{what} needs other tensors than the file has: "
            f"missing {missing}, left over {extra}; is it the same architecture?"
        )
    for key, tensor in own.items():
        if tensor.shape != state[key].shape:
            raise DataError(
                f"{key!r} of {what} must have shape {tuple(tensor.shape)}, "
                f"got {tuple(state[key].shape)} in the file; is it the same architecture?"
            )
        tensor.data = state[key]
    for key, parameter in module.named_parameters():
        parameter.requires_grad_(key not in constant)
