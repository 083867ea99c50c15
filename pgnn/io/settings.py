"""Conversion of settings of models and their pieces to JSON and back, for any kind of piece."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pgnn.errors import Advice, DataError, closest
from pgnn.factors.conditionals.distribution_class import distribution_class
from pgnn.factors.piece import Piece, Restorable, signature_of
from pgnn.factors.variable import Variable
from pgnn.io.labels import decode, encode
from pgnn.models.checked_module import CheckedModule
from pgnn.programs.named_distributions import name_of_distribution, named_distribution

LATER = "declared_zeros"
"""Name of tensors that files of earlier versions lack."""


def name_of(kind: type) -> str:
    """Return the name of a class in files, with its module if it is not one of pgnn."""
    is_pgnn = kind.__module__.split(".")[0] == "pgnn"
    return kind.__name__ if is_pgnn else f"{kind.__module__}:{kind.__qualname__}"


class SettingsWriter:
    """Converts settings to JSON.

    Attributes:
        variables: Descriptions of the variables, each once.
        tensors: Parameters and arrays by key.
    """

    def __init__(self) -> None:
        self.variables: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self._places: dict[str, int] = {}
        self._modules: dict[int, tuple[str, nn.Module]] = {}
        self._within: list[nn.Module] = []

    def object(self, restorable: Restorable, place: str = "") -> dict[str, Any]:
        """Describe a restorable object.

        Args:
            restorable: The object.
            place: Name of the setting that holds it.
        """
        if id(restorable) in self._modules:
            number, module = self._modules[id(restorable)]
            self._within.append(module)
            return {"same": number}
        begin, kind = len(self._within), type(restorable)
        settings = restorable.settings()
        described: dict[str, Any] = {"class": name_of(kind)}
        described["settings"] = {n: self.value(x, n) for n, x in settings.items()}
        if isinstance(restorable, nn.Module):
            nested = {id(x) for m in self._within[begin:] for x in _state(m).values()}
            tensors = {n: x for n, x in _state(restorable).items() if id(x) not in nested}
            number = str(len(self._modules))
            self._modules[id(restorable)] = (number, restorable)
            self._within.append(restorable)
            self.tensors |= {f"{number}.{n}": x for n, x in tensors.items()}
            held = dict(restorable.named_parameters())
            constant = [n for n in tensors if n in held and not held[n].requires_grad]
            described |= {"number": number, "constant": constant}
        if isinstance(restorable, CheckedModule):
            restorable.check()
        if isinstance(restorable, Piece):
            restorable.check()
            key = (restorable.key, "initial") if place == "initial" else restorable.key
            described |= {
                "piece": restorable.noun,
                "key": encode(key),
                "scope": [self.value(v) for v in restorable.scope],
                "whole": not _fits(kind, settings),
            }
        return described

    def value(self, x: Any, place: str = "") -> Any:
        """Convert one setting."""
        if isinstance(x, Variable):
            return {"variable": self._place(x)}
        if isinstance(x, Restorable):
            return {"object": self.object(x, place)}
        if isinstance(x, nn.Module):
            return {"module": type(x).__name__}
        if isinstance(x, Tensor | np.ndarray):
            key = f"@{len(self.tensors)}"
            self.tensors[key] = torch.as_tensor(x)
            return {"tensor" if isinstance(x, Tensor) else "array": key}
        if isinstance(x, Mapping):
            return {"map": [[encode(k), self.value(v, place)] for k, v in x.items()]}
        if isinstance(x, tuple):
            return [self.value(part, place) for part in x]
        if isinstance(x, list):
            return {"list": [self.value(part, place) for part in x]}
        if (named := name_of_distribution(x)) is not None:
            return {"distribution": named}
        if isinstance(x, partial) and distribution_class(x) is not None:
            return {"partial": self.value((x.func, x.args, x.keywords))}
        if callable(x):
            return {"code": type(x).__name__}
        return encode(x)

    def history(self, model: Any) -> Any:
        """Convert the history of a fit, without values that JSON cannot represent."""
        history_values = {}
        for name, figure in model.history.items():
            try:
                history_values[name] = self.value(figure)
            except DataError:
                continue
        return {"map": [[encode(n), x] for n, x in history_values.items()]}

    def _place(self, v: Variable) -> int:
        text = repr((v.name, v.states, v.shape))
        if text not in self._places:
            self._places[text] = len(self.variables)
            described = {"name": v.name, "states": v.states, "shape": v.shape}
            self.variables.append({name: encode(x) for name, x in described.items()})
        return self._places[text]


class SettingsReader:
    """Restores objects that :class:`SettingsWriter` wrote."""

    def __init__(
        self,
        variables: Any,
        tensors: Mapping[str, Tensor],
        classes: Iterable[type[Restorable]],
        modules: dict[Hashable, Any],
    ) -> None:
        self.variables = [
            Variable(decode(v["name"]), decode(v["states"]), decode(v["shape"])) for v in variables
        ]
        self._known = {name_of(kind): kind for kind in classes}
        self._modules = modules
        self._plain: dict[str, Tensor] = {}
        self._states: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            number, _, name = key.partition(".")
            if number.startswith("@"):
                self._plain[key] = tensor
            else:
                self._states.setdefault(number, {})[name] = tensor
        self._restored: dict[str, nn.Module] = {}
        self._within: list[nn.Module] = []
        self._missing: list[Hashable] = []

    def model(self, described: Mapping[str, Any]) -> Any:
        """Restore the model; raise if a module of the caller was not used."""
        name = described["class"]
        if self._class(name) is None:
            hint = f"; pass it in classes=[{_class_name(name)}]"
            hint = hint if ":" in name else closest(name, self._known)
            raise DataError(f"a model of the unknown class {_class_name(name)!r}{hint}")
        keys = dict.fromkeys(self._keys_of_caller(described))
        self._missing = [key for key in keys if key not in self._modules]
        model = self.object(described)
        if self._modules:
            unused = next(iter(self._modules))
            raise DataError(
                f"modules= has {unused!r}, which has no potential and no conditional that needs one"
            )
        return model

    def object(self, described: Mapping[str, Any]) -> Any:
        """Restore an object from its description, and load its parameters."""
        if "same" in described:
            module = self._restored[described["same"]]
            self._within.append(module)
            return module
        name, begin = described["class"], len(self._within)
        state = self._states.get(described.get("number", ""), {})
        code, is_piece = None, False
        if "piece" in described:
            code, is_piece = self._of_caller(described)
        if is_piece:
            restored = code
        else:
            kind = self._class(name)
            if kind is None:
                raise DataError(f"an object of the unknown kind {_class_name(name)!r}")
            settings = {n: self.value(x, code) for n, x in described["settings"].items()}
            restored = kind.from_settings(settings, state)
        if isinstance(restored, nn.Module):
            nested = {id(x) for m in self._within[begin:] for x in _state(m).values()}
            what = (
                f"the {restored.noun} of {restored.key!r}"
                if isinstance(restored, Piece)
                else "the model"
            )
            fill(restored, what, state, described["constant"], nested)
            self._restored[described["number"]] = restored
            self._within.append(restored)
        if isinstance(restored, Piece | CheckedModule):
            restored.check()
        return restored

    def value(self, x: Any, code: Any = None) -> Any:
        """Restore one setting.

        Args:
            x: The saved value.
            code: The caller's module for it, if there is one.
        """
        if isinstance(x, list):
            return tuple(self.value(part, code) for part in x)
        if not isinstance(x, dict):
            return x
        ((kind, held),) = x.items()
        read: dict[str, Callable[[], Any]] = {
            "variable": lambda: self.variables[held],
            "object": lambda: self.object(held),
            "module": lambda: code,
            "tensor": lambda: self._plain[held],
            "array": lambda: self._plain[held].numpy(),
            "distribution": lambda: _distribution(held),
            "partial": lambda: _partial(*self.value(held, code)),
            "map": lambda: {decode(k): self.value(v, code) for k, v in held},
            "list": lambda: [self.value(part, code) for part in held],
        }
        return read[kind]() if kind in read else decode(x)

    def _of_caller(self, described: Mapping[str, Any]) -> tuple[Any, bool]:
        """The caller's module for a piece, and whether it is the piece itself."""
        name, key = described["class"], decode(described["key"])
        needs = [*self._needs([*described["settings"].values()])]
        unknown = self._class(name) is None
        is_piece = described["whole"] or unknown or needs not in ([], ["module"])
        if not needs and not is_piece:
            return None, False
        if unknown and ":" not in name and not described["whole"]:
            raise DataError(f"{key!r} has a {described['piece']} of the unknown kind {name!r}")
        kind, noun = _class_name(name), described["piece"]
        wanted = f"a {kind} {noun}" if is_piece else "its torch module"
        if key not in self._modules:
            also = f", or classes=[{kind}]" if unknown else ""
            others = ", ".join(repr(k) for k in self._missing if k != key)
            rest = f"; {others} must be given too" if others else ""
            raise DataError(
                f"{key!r} has a {kind} {noun}, whose code is not in the file",
                Advice(f"pass modules={{{key!r}: ...}} with {wanted}{also}{rest}", "modules"),
            )
        replacement = copy.deepcopy(self._take(key))
        if isinstance(replacement, Piece):
            scope = tuple(self.value(v) for v in described["scope"])
            if type(replacement).__name__ != kind or replacement.scope != scope:
                raise DataError(
                    f"modules[{key!r}]: expected a {kind} over {[v.name for v in scope]} with the "
                    f"saved states, got {type(replacement).__name__}({replacement!r})"
                )
            return replacement, True
        if is_piece or not isinstance(replacement, nn.Module):
            got = (
                "a bare module"
                if isinstance(replacement, nn.Module)
                else type(replacement).__name__
            )
            raise DataError(f"modules[{key!r}]: expected {wanted}, got {got}")
        return replacement, False

    def _keys_of_caller(self, x: Any) -> Iterator[Hashable]:
        """The keys of the pieces in a description for which the caller passes code."""
        if isinstance(x, list):
            for part in x:
                yield from self._keys_of_caller(part)
        elif isinstance(x, dict):
            needs = "piece" in x and [*self._needs([*x["settings"].values()])]
            if "piece" in x and (needs or x["whole"] or self._class(x["class"]) is None):
                yield decode(x["key"])
            else:
                yield from self._keys_of_caller([*x.values()])

    def _needs(self, settings: Any) -> Iterator[str]:
        """The settings of a piece that are code: ``module``, ``code``, or an unknown class."""
        if isinstance(settings, list):
            for part in settings:
                yield from self._needs(part)
        elif isinstance(settings, dict):
            held = settings.get("object")
            if "module" in settings or "code" in settings:
                yield "module" if "module" in settings else "code"
            elif held is None:
                yield from self._needs([*settings.values()])
            elif "class" in held and self._class(held["class"]) is None:
                yield "code"
            elif "class" in held and "piece" not in held:
                yield from self._needs([*held["settings"].values()])

    def _class(self, name: str) -> type[Restorable] | None:
        """The class of a name; one of the caller may have moved to another module."""
        if name in self._known or ":" not in name:
            return self._known.get(name)
        moved = [k for n, k in self._known.items() if n.split(":")[1:] == name.split(":")[1:]]
        return moved[0] if len(moved) == 1 else None

    def _take(self, key: Hashable) -> Any:
        """The caller's module of a name; of a list the next one."""
        held = self._modules.pop(key)
        if isinstance(held, list | tuple):
            held, *remaining = held
            if remaining:
                self._modules[key] = remaining
        return held


def fill(
    module: nn.Module,
    what: str,
    state: Mapping[str, Tensor],
    constant: list[str],
    nested: set[int],
) -> None:
    """Load the saved tensors with their dtypes; tied parameters stay tied.

    Args:
        module: A module of the saved kind.
        what: Its name in messages.
        state: Its tensors by name.
        constant: Names of the parameters that require no gradient.
        nested: Ids of tensors of submodules that were loaded before.

    Raises:
        DataError: If names or shapes of its tensors differ.
    """
    former = module.former_names if isinstance(module, Piece) else {}
    state = {former.get(name, name): x for name, x in state.items()}
    constant = [former.get(name, name) for name in constant]
    _make_room(module, state)
    tensors = {name: x for name, x in _state(module).items() if id(x) not in nested}
    for name in set(tensors) - set(state):
        if name.rpartition(".")[2] == LATER:  # stays as it was made
            del tensors[name]
    if set(tensors) != set(state):
        missing, extra = sorted(set(tensors) - set(state)), sorted(set(state) - set(tensors))
        raise DataError(
            f"{what} needs other tensors than the file has: missing {missing}, left over {extra}",
            "is it the same architecture?",
        )
    for key, tensor in tensors.items():
        if tensor.shape != state[key].shape:
            raise DataError(
                f"{key!r} of {what} must have shape {tuple(tensor.shape)}, got "
                f"{tuple(state[key].shape)} in the file",
                "is it the same architecture?",
            )
        tensor.data = state[key]
    for key, parameter in module.named_parameters():
        if key in tensors:
            parameter.requires_grad_(key not in constant)


def _make_room(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Have buffers that a new module has not set yet, where the saved one had."""
    for place, part in module.named_modules():
        for name, buffer in part._buffers.items():
            saved = state.get(f"{place}.{name}" if place else name)
            if buffer is None and saved is not None:
                part._buffers[name] = torch.empty_like(saved)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.state_dict(keep_vars=True))


def _fits(kind: type, settings: Mapping[str, Any]) -> bool:
    """Whether settings have all required arguments of a class's constructor."""
    if kind.from_settings.__func__ is not Restorable.__dict__["from_settings"].__func__:  # type: ignore[attr-defined]
        return True
    try:
        signature_of(kind).bind(**settings)
    except TypeError:
        return False
    return True


def _distribution(name: object) -> type[Distribution]:
    kind = named_distribution(name)
    if kind is None:
        raise DataError(f"neither torch nor Pyro has a distribution {name!r}")
    return kind


def _partial(kind: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    if distribution_class(kind) is None:
        raise DataError(f"expected a class of distributions, got {kind!r}")
    return partial(kind, *arguments, **named)


def _class_name(name: str) -> str:
    return name.split(":")[-1].split(".")[-1]
