"""The formats of model files: how they are recognised, read and written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from pgnn.abilities import DirectedModel
from pgnn.io.bif import format_bif, parse_bif
from pgnn.io.description import Network, describe, to_bayesian_network
from pgnn.io.dsl import format_dsl, parse_dsl
from pgnn.io.endings import format_of_ending
from pgnn.io.factor_graph_file import format_fg, parse_fg
from pgnn.io.net import format_net, parse_net
from pgnn.io.source import Source
from pgnn.io.uai import format_uai, number, numbering, read_uai, to_markov_random_field
from pgnn.io.xdsl import format_xdsl, parse_xdsl
from pgnn.io.xmlbif import format_xmlbif, parse_xmlbif
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField

TableModel: TypeAlias = BayesianNetwork | MarkovRandomField
_BEGIN = 2**16
_BEFORE = re.compile(
    r"(?:\s|%[^\n]*+|#[^\n]*+|//[^\n]*+|/\*.*?\*/"
    r"|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*+(?:\[.*?\]\s*+)?>)*+",
    re.DOTALL,
)


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        name: Its name; the endings of its files are in :data:`ENDINGS`.
        begin: Pattern of the start of its files, without comments.
        read: Takes the text, and whether rows of tables are to be divided by their sums.
        write: Returns the text of a model.
        is_numbered: Whether variables and states are numbers without names.
        is_directed: Whether it tells networks from plain factors.
    """

    name: str
    begin: str
    read: Callable[[Source, bool], TableModel]
    write: Callable[[Any], str]
    is_numbered: bool = False
    is_directed: bool = True

    def losses(self, model: Any) -> list[str]:
        """Return descriptions of the parts of a model that this format cannot represent."""
        lost = []
        if self.is_numbered and any(name != k for name, k in numbering(model).items()):
            lost.append("the names of the variables")
        if self.is_numbered and any(
            v.states != tuple(range(len(v.states or ()))) for v in model.variables.values()
        ):
            lost.append("the names of the states")
        if isinstance(model, DirectedModel) and not self.is_directed:
            lost.append("the direction of the edges")
        if self.is_numbered and isinstance(model, BayesianNetwork) and model.latents:
            lost.append("which variables are latent")
        return lost


def _of_networks(
    name: str,
    begin: str,
    parse: Callable[[Source, bool], Network],
    write: Callable[[Network], str],
) -> Format:
    """A format of directed networks of tables."""

    def read(source: Source, normalise: bool) -> TableModel:
        return to_bayesian_network(parse(source, normalise))

    def text(model: Any) -> str:
        return write(describe(model))

    return Format(name, begin, read, text)


FORMATS = (
    _of_networks("bif", r"(?:network|variable|probability)\b", parse_bif, format_bif),
    _of_networks("xmlbif", r"<BIF\b", parse_xmlbif, format_xmlbif),
    _of_networks("net", r"net\s*+\{|class\b|(?:discrete\s++)?node\b", parse_net, format_net),
    _of_networks("dsl", r"net\s++\w++\s*+\{", parse_dsl, format_dsl),
    _of_networks("xdsl", r"<smile\b", parse_xdsl, format_xdsl),
    Format(
        "uai",
        r"(?:MARKOV|BAYES)\b",
        lambda source, normalise: read_uai(source, normalise=normalise),
        lambda model: format_uai(number(model)),
        is_numbered=True,
    ),
    Format(
        "fg",
        r"\d++\s",
        lambda source, _: to_markov_random_field(parse_fg(source)),
        lambda model: format_fg(number(model)),
        is_numbered=True,
        is_directed=False,
    ),
)


def recognised(text: str) -> Format | None:
    """Return the format of a text; None if it is not recognised."""
    text = text[:_BEGIN]
    before = _BEFORE.match(text)
    begin = text[before.end() :] if before else text
    return next((f for f in FORMATS if re.match(f.begin, begin, re.IGNORECASE)), None)


def by_name(name: str) -> Format | None:
    """Return the format of a name, or of an ending of files."""
    known = format_of_ending(name)
    return next((f for f in FORMATS if f.name == known), None)
