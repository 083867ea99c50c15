"""What a language model says about lengths that are none, and texts that are none."""

from collections.abc import Callable
from typing import Any

import pytest

import pgnn
from pgnn.errors import DataError, EvidenceError, PgnnError, Unsupported

WRONG: dict[str, tuple[Callable[[Any], Any], type[PgnnError], str]] = {
    "a length that is text": (lambda m: m.sample(1, {"T": "5"}), EvidenceError, "got '5'"),
    "lengths that are text": (lambda m: m.sample(1, {"T": ["5"]}), EvidenceError, "whole number"),
    "half a step": (lambda m: m.sample(1, {"T": 2.5}), EvidenceError, "got 2.5"),
    "several next steps": (lambda m: m.predict("ab", 3), Unsupported, "got steps=3"),
    "no next step": (lambda m: m.predict("ab", 0), EvidenceError, "steps"),
    "steps that are text": (lambda m: m.predict("ab", "3"), EvidenceError, "steps"),
    "no texts": (lambda m: m.fit([], progress=False), DataError, "no steps"),
    "an empty text": (lambda m: m.fit([""], progress=False), DataError, "no steps"),
    "nothing to guess": (lambda m: pgnn.metrics.perplexity(m, []), DataError, "needs at least one"),
}


@pytest.mark.parametrize("case", WRONG)
def test_lengths_and_texts_that_are_none(case: str) -> None:
    ask, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        ask(pgnn.LanguageModel("ab", hidden=4))


def test_an_empty_text_has_a_perplexity_where_ends_are_said() -> None:
    model = pgnn.LanguageModel("ab", hidden=4, ends=True)
    ended = float(model.predict("").diagnostics["end"].detach())
    assert pgnn.metrics.perplexity(model, [""]) == pytest.approx(1 / ended)
    with pytest.raises(DataError, match="at least one sequence"):
        pgnn.metrics.perplexity(model, [])
