"""The endings of files of tables, by the names of their formats."""

ENDINGS: dict[str, tuple[str, ...]] = {
    "bif": ("bif",),
    "xmlbif": ("xmlbif", "bifxml", "xml"),
    "net": ("net", "hugin", "oobn"),
    "dsl": ("dsl",),
    "xdsl": ("xdsl",),
    "uai": ("uai",),
    "fg": ("fg",),
}


def format_of_ending(ending: str) -> str | None:
    """Return the format of an ending, or of a format's name; None if it is none.

    Example:
        >>> format_of_ending("bifxml"), format_of_ending("doc")
        ('xmlbif', None)
    """
    return next((name for name, endings in ENDINGS.items() if ending in endings), None)
