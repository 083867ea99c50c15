"""Fonts for characters that the default font lacks."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

_NORMAL = 400
_BOXES = ("LastResort", "Last Resort", "NotDef", "Adobe Blank")
"""Fonts that have a box for every character."""


def legible(text: str) -> str:
    r"""Return a text in which characters that no installed font has are spelled as escapes.

    Matplotlib would draw boxes, which do not tell one state from another, and warn.

    Example:
        >>> legible("yes, βέβαια"), legible("\U0010fffd")
        ('yes, βέβαια', '\\U0010fffd')
    """
    if text.isascii():
        return text
    return "".join(c if c.isascii() or _font_of(c, _defaults()) else _spelled(c) for c in text)


def families_of(text: str) -> list[str]:
    """Return the default font families, and those that have what these lack of a text."""
    families = [*_defaults()]
    if not text.isascii():
        fonts = [_font_of(c, _defaults()) for c in text if not c.isascii()]
        families += [*dict.fromkeys(f for f in fonts if f and f not in families)]
    return families


def weight_of(text: str, weight: str) -> str:
    """Return a weight that all fonts of a text have, so that Matplotlib does not log another."""
    others = families_of(text)[len(_defaults()) :]
    return weight if all(weight in _weights_of(family) for family in others) else "normal"


def with_fonts(ax: Any) -> Any:
    """Make all texts of axes legible, and return the axes."""
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    for axis in (ax.xaxis, ax.yaxis):
        labels = [tick.get_text() for tick in axis.get_ticklabels()]
        if isinstance(axis.get_major_locator(), FixedLocator) and not "".join(labels).isascii():
            families = families_of("".join(labels))
            axis.set_ticks(axis.get_ticklocs(), [legible(x) for x in labels], family=families)
    for text in ax.findobj(Text):
        if not text.get_text().isascii():
            text.set_family(families_of(text.get_text()))
            text.set_text(legible(text.get_text()))
    return ax


def _spelled(character: str) -> str:
    """Return the escape of a character; nothing of marks that change the one before."""
    invisible = unicodedata.category(character) in ("Cf", "Mn")
    return "" if invisible else character.encode("unicode_escape").decode()


def _defaults() -> tuple[str, ...]:
    import matplotlib

    return tuple(matplotlib.rcParams["font.family"])


@lru_cache(maxsize=20_000)
def _font_of(character: str, defaults: tuple[str, ...]) -> str | None:
    """Return the family of a font that has a character: a default one if possible."""
    if any(_has(path, character) for path in _paths_of(defaults)):
        return defaults[0]
    known = next((f for f, path in _FOUND.items() if _has(path, character)), None)
    if known is not None:
        return known
    for family, path in _installed():
        if _has(path, character):
            _FOUND[family] = path
            return family
    return None


_FOUND: dict[str, str] = {}
"""Paths of the fonts that were found, by family; scripts have many characters in common."""


@lru_cache(maxsize=16)
def _paths_of(families: tuple[str, ...]) -> tuple[str, ...]:
    """Return the files of families; generic ones such as "sans-serif" are lists of others."""
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont

    settings: Any = matplotlib.rcParams
    names = [n for f in families for n in settings.get(f"font.{f}", [f])]
    paths = []
    for name in names:
        try:
            properties = FontProperties(family=[name])
            paths.append(str(findfont(properties, fallback_to_default=False)))
        except ValueError:  # not installed
            continue
    return tuple(paths)


@lru_cache(maxsize=256)
def _weights_of(family: str) -> frozenset[str]:
    """Return which of the weights "normal" and "bold" an installed family has."""
    from matplotlib.font_manager import fontManager, weight_dict

    numbers: Any = weight_dict
    found = {numbers.get(e.weight, e.weight) for e in fontManager.ttflist if e.name == family}
    return frozenset(name for name in ("normal", "bold") if numbers[name] in found)


def _installed() -> list[tuple[str, str]]:
    """Return family and file of the installed fonts: upright and of normal weight first."""
    from matplotlib.font_manager import fontManager

    def rank(entry: Any) -> tuple[bool, float, bool, str]:
        weight = entry.weight if isinstance(entry.weight, int) else _NORMAL
        return entry.style != "normal", abs(weight - _NORMAL), "Sans" not in entry.name, entry.name

    fonts = {e.name: e.fname for e in sorted(fontManager.ttflist, key=rank, reverse=True)}
    return [(n, path) for n, path in reversed(fonts.items()) if not any(b in n for b in _BOXES)]


def _has(path: str, character: str) -> bool:
    """Whether a font has an outline of a character."""
    from matplotlib.ft2font import FT2Font

    try:
        return bool(FT2Font(path).get_char_index(ord(character)))
    except (OSError, RuntimeError):
        return False
