"""Names that an error message suggests."""

from pgnn.errors import closest


def test_names_of_a_set_come_in_alphabetical_order() -> None:
    names = {f"{letter}{k}" for letter in "zyxw" for k in range(5)}
    expected = ", ".join(map(repr, sorted(names)[:8]))
    assert closest("quite other", names) == f"; known: {expected}, ..."
    assert closest("quite other", frozenset({2, "b"})) == "; known: 2, 'b'"


def test_names_of_a_list_keep_their_order() -> None:
    assert closest("quite other", ["b", "a"]) == "; known: 'b', 'a'"
    assert closest("smok", ["lung", "smoke"]) == "; did you mean 'smoke'?"
