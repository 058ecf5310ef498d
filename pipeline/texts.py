"""Texts from anywhere made fit for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_CHARACTERS = 200

#: Controls of both sets, what turns the direction of writing, separators of lines, halves of pairs.
_UNPRINTABLE = frozenset(
    [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
)
_LAYOUT = frozenset(map(ord, "\n\t"))


class _Escapes(dict[int, str]):
    """For ``str.translate``: escapes made on demand, since halves of pairs are two thousand."""

    def __missing__(self, code: int) -> str:
        if (code in _UNPRINTABLE and code not in _LAYOUT) or 0xD800 <= code < 0xE000:
            return f"\\u{code:04x}"
        raise LookupError(code)


def printable(text: str) -> str:
    """The text with everything that would steer a terminal escaped, as JSON does it; line breaks and tabs stay.

    >>> printable("red \\x1b[31m\\n")
    'red \\\\u001b[31m\\n'
    """
    return text if text.isascii() and text.isprintable() else text.translate(_Escapes())


def shown(value: object, most: int = _MOST_CHARACTERS) -> str:
    """A value from anywhere for a message: as ``repr`` gives it, cut to ``most`` characters.

    >>> shown("a" * 10, 6)
    "'aaaaa..."
    """
    cut = value[: most + 1] if isinstance(value, str | bytes) else value
    if isinstance(cut, int) and cut.bit_length() > 4 * most:
        return f"a number of {cut.bit_length():,} bits"
    text = (
        f"{type(value).__name__} of {len(value):,}" if isinstance(value, dict | list | tuple) and value else repr(cut)
    )
    return text if len(text) <= most else text[:most] + "..."


def counted(n: int, noun: str) -> str:
    """A number and its noun, whose plural has an s.

    >>> counted(1, "clip"), counted(2000, "clip")
    ('1 clip', '2,000 clips')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown(str(name)) for name in names[:most]) + more


def one_line(value: object, most: int = 500) -> str:
    """A text from anywhere on one line, without control characters, cut to ``most`` characters; empty for None.

    >>> one_line("a\\n b\\x1b[31m")
    'a b [31m'
    """
    text = "" if value is None else str(value)[: 4 * most]
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= most else text[: most - 3] + "..."
