"""Evidence and query files of UAI models."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from pgnn.errors import Advice, DataError, EvidenceError, closest
from pgnn.io.source import PathOrFile, Source, write_text
from pgnn.io.tokens import Tokens
from pgnn.io.uai import numbering
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField


def read_evidence(
    file: PathOrFile, sample: int | None = None, encoding: str = "utf-8"
) -> dict[int, int]:
    """Read a UAI evidence file.

    Two dialects are distinguished by their numbers of words: ``count``, then pairs of variable and
    state; or the number of samples, then ``count`` and pairs for each sample. An empty file is no
    evidence.

    Args:
        file: Path or open stream.
        sample: Which sample to return, from 0; needed only where the file holds several.
        encoding: Encoding of the file.

    Returns:
        Index of the variable -> index of its state.

    Raises:
        DataError: If anything is wrong, with line and column; also if the file holds several
            samples and none was asked for, or not so many.
    """
    tokens = Tokens(Source.read(file, encoding))
    samples = _read_samples(tokens)
    if sample is None and len(samples) > 1:
        raise DataError(
            f"{tokens.source.name} holds {len(samples)} samples of evidence",
            Advice(f"pass sample=0 to {len(samples) - 1}", "sample", (len(samples) - 1,)),
        )
    chosen = sample or 0
    if not 0 <= chosen < len(samples):
        name = tokens.source.name
        raise DataError(f"{name} holds {len(samples)} samples, from 0, not sample {chosen}")
    return samples[chosen]


def write_evidence(
    evidence: Mapping[Any, Any],
    file: PathOrFile,
    model: BayesianNetwork | MarkovRandomField | None = None,
) -> None:
    """Write a UAI evidence file: the count, then pairs of variable and state.

    Args:
        evidence: Variable -> state; the numbers of both, or names and labels of a model's.
        file: Path (compressed if it ends in ``.gz``) or open stream.
        model: The model that was written with :func:`pgnn.io.uai.write_uai`; gives the numbers.

    Raises:
        EvidenceError: If a variable or state is unknown, or a number is negative.
    """
    pairs = [(name, state) for name, state in evidence.items()]
    if model is not None:
        pairs = [_numbers(model, name, state) for name, state in pairs]
    for name, state in pairs:
        if not all(isinstance(k, int) and k >= 0 for k in (name, state)):
            raise EvidenceError(
                f"a UAI file holds only numbers, got {name!r}: {state!r}",
                "pass model= to name them",
            )
    write_text(f"{len(pairs)}" + "".join(f" {k} {state}" for k, state in pairs) + "\n", file)


def read_query(file: PathOrFile, encoding: str = "utf-8") -> tuple[int, ...]:
    """Read a UAI query file: the count, then the numbers of the variables asked for.

    Raises:
        DataError: If the file is malformed, with line and column.
    """
    tokens = Tokens(Source.read(file, encoding))
    names = tokens.integers(tokens.integer("the number of variables"), "a variable")
    tokens.end("after the variables")
    return tuple(names)


def _read_samples(tokens: Tokens) -> list[dict[int, int]]:
    if not tokens.remaining:
        return [{}]
    words = tokens.remaining
    start = tokens.integer("the number of observed variables")
    if words == 1 + 2 * start:
        return [_read_pairs(tokens, start)]
    samples = []
    for _ in range(start):
        samples.append(_read_pairs(tokens, tokens.integer("the number of observed variables")))
    tokens.end(f"after {start} samples")
    return samples


def _read_pairs(tokens: Tokens, count: int) -> dict[int, int]:
    evidence: dict[int, int] = {}
    for _ in range(count):
        start = tokens.at
        name, state = tokens.integers(2, "variable and state")
        if name in evidence:
            raise tokens.error(start, f"variable {name} is observed twice")
        evidence[name] = state
    return evidence


def _numbers(
    model: BayesianNetwork | MarkovRandomField, name: Hashable, state: Hashable
) -> tuple[int, int]:
    element = model.elements.find(name)
    if element is None:
        raise EvidenceError(f"there is no variable {name!r}{closest(name, model.variables)}")
    if element[0].shape:
        raise EvidenceError(f"{name!r} is an array", "give the states of its elements one by one")
    return numbering(model)[name], element[0].index(state)
