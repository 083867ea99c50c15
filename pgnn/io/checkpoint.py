"""Checkpoints: one file with a model's structure as JSON and its numbers as tensors."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.errors import DataError, PgnnError, Unsupported, closest
from pgnn.factors.variable import Variable
from pgnn.io.checkpoint_kinds import describe_conditional, make_conditional
from pgnn.io.checkpoint_potentials import describe_potential, make_potential
from pgnn.io.checkpoint_sequences import describe_sequence_model, make_sequence_model
from pgnn.io.labels import decode, encode
from pgnn.models.base import Model
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField
from pgnn.models.sequence_model import SequenceModel

VERSION = 1
"""Version of the format; a file of another version is refused."""

_WRONG = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    PgnnError,
)


_SEQUENCE_MODELS = ("HiddenMarkovModel", "HiddenSemiMarkovModel", "DynamicBayesianNetwork")


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Save a model to one file, in the safetensors format.

    Kept are names and labels with their types (text, integers, floats, booleans, ``None`` and
    tuples of these), arrows, kinds and settings of the conditionals, every number bit by bit with
    its dtype, and which numbers are constant. The networks of ``Neural`` conditionals and
    potentials are code: only their numbers are kept; functions that are features are kept as
    numbers. A file that exists is replaced when the new one is complete.

    Args:
        model: A ``BayesianNetwork``, ``MarkovRandomField``, ``HiddenMarkovModel`` or
            ``DynamicBayesianNetwork``.
        path: File, by custom ending in ``.safetensors``.

    Raises:
        DataError: If a name or label is of another type.
        Unsupported: If the model is of another class than those above.
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save as to_bytes

    structure, tensors = _describe(model)
    text = json.dumps({"version": VERSION, **structure})
    kept = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    data = to_bytes(kept, {"pgnn": text, "crc32": _checksum(text, kept)})
    path = Path(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load(
    path: str | os.PathLike[str], modules: Mapping[Hashable, nn.Module] | None = None
) -> BayesianNetwork | MarkovRandomField | SequenceModel:
    """Load a model that :func:`save` wrote, without executing any code from the file.

    Args:
        path: The file.
        modules: For each ``Neural`` conditional, by the name of its child, a network of the same
            architecture; for each ``NeuralPotential`` likewise, by the name of its variable or the
            tuple of their names, or a list of networks where several have these; or a whole
            conditional or potential, where its head or features, or the class itself, are your
            own code; that of a first step, in a model over time, by ``(name, "initial")``. They
            are copied, and the copies get the saved numbers.

    Raises:
        DataError: If the file is no checkpoint, is damaged or of another version, or ``modules``
            misses one or has one that does not fit.
        OSError: If the file cannot be opened.
    """
    path = Path(path)
    structure, tensors = _read(path)
    given = dict(modules or {})
    try:
        variables = [
            Variable(decode(v["name"]), decode(v["states"]), decode(v["shape"]))
            for v in structure["variables"]
        ]
        make: dict[str, Callable[..., Any]] = {
            "BayesianNetwork": _make_bayesian_network,
            "MarkovRandomField": _make_markov_random_field,
            **dict.fromkeys(_SEQUENCE_MODELS, _make_sequence_model),
        }
        if structure["class"] not in make:
            known = closest(structure["class"], make)
            raise DataError(f"a model of the unknown class {structure['class']!r}{known}")
        made: BayesianNetwork | MarkovRandomField | SequenceModel
        made = make[structure["class"]](structure, variables, tensors, given)
        return made
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error
    except _WRONG as error:
        raise DataError(
            f"{path.name}: expected a description of a model, but {type(error).__name__}: {error}"
        ) from error


def _describe(model: Model) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if isinstance(model, SequenceModel) and type(model).__name__ in _SEQUENCE_MODELS:
        return describe_sequence_model(model)
    names = {name: k for k, name in enumerate(model.variables)}
    variables = [
        {"name": encode(v.name), "states": encode(v.states), "shape": encode(v.shape)}
        for v in model.variables.values()
    ]
    structure: dict[str, Any] = {"class": type(model).__name__, "variables": variables}
    tensors: dict[str, Tensor] = {}
    if isinstance(model, BayesianNetwork) and type(model) is BayesianNetwork:
        structure["edges"] = [[names[a], names[b]] for a, b in model.graph.edges]
        structure["conditionals"] = []
        for k, conditional in enumerate(model.conditionals.values()):
            structure["conditionals"].append(describe_conditional(conditional, names))
            tensors |= {f"{k}.{key}": x for key, x in conditional.state_dict().items()}
    elif isinstance(model, MarkovRandomField) and type(model) is MarkovRandomField:
        structure["edges"] = [[names[a], names[b]] for a, b in model.graph.edges]
        structure["potentials"] = []
        for k, potential in enumerate(model.potentials):
            described, own = describe_potential(potential)
            structure["potentials"].append(described)
            tensors |= {f"{k}.{key}": x for key, x in own.items()}
    else:
        raise Unsupported(
            f"a checkpoint holds a model of pgnn's own classes, not a "
            f"{type(model).__name__}; save its state_dict() with torch"
        )
    return structure, tensors


def _make_bayesian_network(
    structure: Mapping[str, Any],
    variables: Sequence[Variable],
    tensors: Mapping[str, Tensor],
    modules: dict[Hashable, nn.Module],
) -> BayesianNetwork:
    states = _by_number(tensors)
    conditionals = {}
    for k, described in enumerate(structure["conditionals"]):
        state = states.get(str(k), {})
        conditional = make_conditional(described, variables, state, modules)
        conditionals[conditional.child.name] = conditional
    if modules:
        unused = next(iter(modules))
        raise DataError(f"modules= has {unused!r}, which has no conditional that needs one")
    edges = [(variables[a].name, variables[b].name) for a, b in structure["edges"]]
    return BayesianNetwork(edges, conditionals)


def _make_markov_random_field(
    structure: Mapping[str, Any],
    variables: Sequence[Variable],
    tensors: Mapping[str, Tensor],
    modules: dict[Hashable, Any],
) -> MarkovRandomField:
    states = _by_number(tensors)
    potentials = [
        make_potential(described, states.get(str(k), {}), modules)
        for k, described in enumerate(structure["potentials"])
    ]
    if modules:
        unused = next(iter(modules))
        raise DataError(f"modules= has {unused!r}, which has no potential that needs one")
    edges = [(variables[a].name, variables[b].name) for a, b in structure["edges"]]
    return MarkovRandomField(edges, potentials, {v.name: v for v in variables})


def _make_sequence_model(
    structure: Mapping[str, Any],
    variables: Sequence[Variable],
    tensors: Mapping[str, Tensor],
    modules: dict[Hashable, nn.Module],
) -> SequenceModel:
    return make_sequence_model(structure, variables, _by_number(tensors), modules)


def _by_number(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of each conditional or potential, by its number and then by name."""
    states: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(number, {})[name] = tensor
    return states


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UnicodeError) as error:
        raise DataError(
            f"{path.name}: expected a checkpoint, got a broken file: {error}"
        ) from error
    if "pgnn" not in metadata:
        raise DataError(f"{path.name}: expected a checkpoint of pgnn, got other safetensors")
    text = metadata["pgnn"]
    if metadata.get("crc32") != _checksum(text, tensors):
        raise DataError(f"{path.name}: the checksum differs: the file was damaged or edited")
    try:
        structure = dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path.name}: expected a description in JSON: {error}") from error
    if structure.get("version") != VERSION:
        raise DataError(
            f"{path.name}: expected version {VERSION} of the format, got "
            f"{structure.get('version')!r}; load it with the version of pgnn that wrote it"
        )
    return structure, tensors


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    crc = zlib.crc32(text.encode())
    for key in sorted(tensors):
        header = f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}"
        crc = zlib.crc32(header.encode(), crc)
        crc = zlib.crc32(tensors[key].reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
