"""Names of variables and states for formats in which names are identifiers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pgnn.io.description import Network

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Za-z0-9_]+")
_YES = ("yes", "true")
NAME, STATES, LATENT = "pgnn_name", "pgnn_states", "latent"


@dataclass(frozen=True)
class Spelling:
    """How a variable is written where names are identifiers.

    Attributes:
        name: An identifier.
        states: Words of letters, digits and underscores.
        properties: What else has to be written, so that :func:`restored` gives the names back.
    """

    name: str
    states: tuple[str, ...]
    properties: dict[str, str]


def spellings(network: Network, any_states: bool = False) -> dict[str, Spelling]:
    """Return how the variables of a network are written; names that may stay do.

    Args:
        network: A description in text.
        any_states: Whether the format writes any text as the name of a state.
    """
    names = _identifiers(map(str, network.states), _IDENTIFIER)
    result = {}
    for name, labels in network.states.items():
        old = [str(label) for label in labels]
        new = old if any_states else list(_identifiers(old, _WORD).values())
        properties = {}
        if names[str(name)] != name:
            properties[NAME] = str(name)
        if new != old:
            properties[STATES] = json.dumps(old)
        if name in network.latents:
            properties[LATENT] = "yes"
        result[str(name)] = Spelling(names[str(name)], tuple(new), properties)
    return result


def restored(
    name: str, states: Sequence[str], properties: Mapping[str, str]
) -> tuple[str, Sequence[str], bool]:
    """Return name, states, and whether a variable is latent.

    Args:
        name: As it is written.
        states: Likewise.
        properties: Those of the variable; states of another number than was written are ignored,
            as another program may have changed them.
    """
    try:
        old = json.loads(properties.get(STATES, "null"))
    except (ValueError, RecursionError):
        old = None
    if isinstance(old, list) and len(old) == len(states) and all(isinstance(s, str) for s in old):
        states = old
    latent = properties.get(LATENT, "").strip().lower() in _YES
    return properties.get(NAME, name), states, latent


def _identifiers(names: Iterable[str], pattern: re.Pattern[str]) -> dict[str, str]:
    """Different words of a pattern for different names; those that match stay as they are."""
    names = list(names)
    result = {name: name for name in names if pattern.fullmatch(name)}
    taken = set(result)
    for name in names:
        if name not in result:
            stem = re.sub(r"[^A-Za-z0-9_]", "_", name)[:80] or "_"
            stem = stem if pattern.fullmatch(stem) else f"_{stem}"
            word, count = stem, 1
            while word in taken:
                count += 1
                word = f"{stem}_{count}"
            taken.add(word)
            result[name] = word
    return {name: result[name] for name in names}
