"""Which hidden states are wanted, in the words of the option ``layer``."""

from __future__ import annotations

from pipeline.errors import SettingError

Block = int | str


def parse_layers(text: str, n_layers: int) -> tuple[Block, ...]:
    """Blocks of channels, in order: numbers of hidden states, ``last`` or ``mean``.

    Args:
        text: such as ``7``, ``last``, ``mean``, ``all`` or ``3+6+9``.
        n_layers: hidden states are 0 to ``n_layers``; 0 where only the last is to be had.

    Raises:
        SettingError: no such layer.

    >>> parse_layers("3+6+last", 12), parse_layers("all", 2)
    ((3, 6, 'last'), (0, 1, 2))
    """
    if n_layers == 0 and text != "last":
        raise SettingError(f"layer={text}: the layers of this model differ in width and hop. Use layer=last.")
    if text == "all":
        return tuple(range(n_layers + 1))
    return tuple(_parse(word, text, n_layers) for word in text.split("+"))


def describe_layers(blocks: tuple[Block, ...], width: int) -> str:
    """Which channels come from where.

    >>> describe_layers((3, "last"), 768)
    'channels 0-767 layer 3, 768-1535 last layer'
    """
    words = {"last": "last layer", "mean": "mean of all layers"}
    names = [words.get(str(block), f"layer {block}") for block in blocks]
    if len(blocks) == 1:
        return names[0]
    return "channels " + ", ".join(f"{i * width}-{(i + 1) * width - 1} {name}" for i, name in enumerate(names))


def layers_to_run(blocks: tuple[Block, ...], n_layers: int) -> int:
    """How many layers of the network serve these blocks.

    One more than the deepest, since a network may put a norm behind the layer that is its last.
    """
    if any(isinstance(block, str) for block in blocks):
        return n_layers
    return min(n_layers, 1 + max(int(block) for block in blocks))


def _parse(word: str, text: str, n_layers: int) -> Block:
    if word in ("last", "mean"):
        return word
    if word.isdecimal() and int(word) <= n_layers:
        return int(word)
    raise SettingError(
        f"layer={text}: {word!r} is no layer of this model. It has 0 (what goes into the first layer) to {n_layers}, "
        "last, mean (of all), all, and several joined by +."
    )
