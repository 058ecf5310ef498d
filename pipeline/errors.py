"""One exception tree for everything a user can cause.

Every message gives the file or value, the limit, the likely cause and the next step.  The command
line prints the message without a traceback and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar


class EastError(Exception):
    """Base of all errors that are the user's to mend."""

    exit_code: ClassVar[int] = 1


class SettingError(EastError):
    """A value on the command line or in a recipe is not usable."""

    exit_code = 2


class UnknownNameError(SettingError):
    """A teacher, student, loss or dataset that is not registered."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        known = sorted(set(choices))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"There is no {kind} named {name!r}.{hint} Known: {', '.join(known) or 'none'}.")
        self.kind, self.name, self.choices = kind, name, known


class MissingExtraError(EastError):
    """An optional package is not installed."""


class ManifestError(EastError):
    """A clip table that is malformed, or that contradicts itself."""


class WeightsError(EastError):
    """Weights that are absent, damaged, of the wrong digest or of the wrong architecture."""


class StoreError(EastError):
    """A store that is absent, damaged, foreign, or made with other settings."""


class StoreBusyError(StoreError):
    """Another process is writing the store."""


class PlanError(EastError):
    """Work that would not fit, or whose teacher fails its checks: refused before it starts."""


class ClipsFailedError(EastError):
    """The batch ran to its end, but some clips failed."""


class TrainingError(EastError):
    """Training that cannot start, or whose numbers went wrong."""


class RunError(EastError):
    """A run folder that is absent, unfinished or damaged."""


class AudioError(EastError):
    """A file or segment that gives no usable samples.

    ``kind`` is one word for tables and stores; ``reason`` is the sentence for people and holds no
    folder names, since it is written into stores that are shared.
    """

    kind: ClassVar[str] = "audio"

    def __init__(self, reason: str, *, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason, self.name = reason, name

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_audio_error, (type(self), self.reason, self.name)


class AudioMissingError(AudioError):
    """No such file, or a link that leads nowhere."""

    kind = "missing"


#: Why a clip has no features that was still to be made when it left the clip table; an AudioMissingError.
NOT_IN_TABLE_REASON = "its clip is not in the clip table any more, and its features are not there to be kept"


class AudioUnreadableError(AudioError):
    """The file is there but may not be read."""

    kind = "unreadable"


class AudioEmptyError(AudioError):
    """A file of zero bytes, or one that holds no samples."""

    kind = "empty"


class AudioFormatError(AudioError):
    """Not audio, or damaged beyond decoding."""

    kind = "format"


class AudioUnsupportedError(AudioError):
    """Audio that needs an optional decoder."""

    kind = "unsupported"


class AudioTruncatedError(AudioError):
    """Less audio than the file's own header promises."""

    kind = "truncated"


class AudioValueError(AudioError):
    """Samples that are not finite numbers."""

    kind = "values"


class AudioRangeError(AudioError):
    """A segment that starts beyond the end of the file."""

    kind = "range"


class DecoderDiedError(AudioError):
    """The process that worked on this clip was killed, more than once."""

    kind = "died"


def _rebuild_audio_error(cls: type[AudioError], reason: str, name: str) -> AudioError:
    return cls(reason, name=name)


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: dotted module name, such as ``"s3fs"``.
        extra: name of the extra in ``pyproject.toml``.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed. It comes with an extra: pip install 'east-music[{extra}]'"
        ) from error
