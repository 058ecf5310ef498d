"""Which stores a run reads, and on what device: chosen in words, never silently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline import layout, registry
from pipeline.cards import StudentCard
from pipeline.distillation.settings import NO_TEACHER
from pipeline.errors import SettingError, StoreError
from pipeline.events import Listener, Warned
from pipeline.stores import StoreReader, open_store
from pipeline.stores.schema import fingerprint_fields

_TOLERANCE_S = 1e-3


def open_mel(student: StudentCard, dataset: str, path: str, clip_s: float, listener: Listener) -> StoreReader:
    """The store of the student's front end.

    Args:
        path: given by the user; empty looks below the dataset.

    Raises:
        StoreError: absent (the command that makes it is named), or of another front end.
    """
    found = [path] if path else _below(dataset, student.front_end)
    if not found:
        raise StoreError(
            f"There is no mel store of {student.front_end} for {dataset!r}, which the student {student.name} reads. "
            + _how_to_make("none", dataset, student.name)
        )
    store = open_store(found[0])
    if store.meta.extractor != student.front_end:
        raise StoreError(
            f"{found[0]} holds {store.meta.name}, but the student {student.name} reads {student.front_end}. "
            + _how_to_make("none", dataset, student.name)
        )
    return _checked(store, clip_s, listener)


def open_teachers(
    teacher: Sequence[str], store: Sequence[str], dataset: str, clip_s: float, listener: Listener
) -> tuple[StoreReader, ...]:
    """The teacher stores asked for, or the only one there is.

    Raises:
        StoreError: one that is asked for is not there; the command that makes it is named.
        SettingError: several are there and none was asked for, or a name fits several.
    """
    if store:
        paths = list(store)
    elif teacher:
        paths = [_find(name, dataset) for name in teacher]
    else:
        paths = [_only(dataset)]
    stores = tuple(_checked(open_store(path), clip_s, listener) for path in paths)
    mels = [path for path, opened in zip(paths, stores, strict=True) if _is_mel(opened)]
    if mels:
        raise SettingError(f"{mels[0]} holds mels, not a teacher's embeddings. {_choices(dataset)}")
    return stores


def open_views(store: StoreReader, n: int, make: str) -> tuple[StoreReader, ...]:
    """The stores of views 1 to ``n`` of a store's clips, which lie beside it.

    Args:
        make: the command that makes them.

    Raises:
        StoreError: one that is not there, that is of another view, or that was made with other settings.
    """
    opened: list[StoreReader] = []
    for view in range(1, n + 1):
        place = _place_of_view(store.path, view)
        if place is None:
            raise StoreError(f"There is no store of view {view} of {store.meta.name} beside {store.path}. {make}")
        opened.append(open_store(place))
        theirs, ours = (fingerprint_fields(reader.meta) for reader in (opened[-1], store))
        plain = {name: value for name, value in theirs["parameters"].items() if name.partition("_")[0] != "view"}
        differing = [name for name in ours if theirs[name] != ours[name] and name not in ("extractor", "parameters")]
        if theirs["parameters"].get("view") != view or plain != ours["parameters"] or differing:
            what = ", ".join(differing) or "parameters"
            raise StoreError(f"{place} is not of view {view} of what {store.path} holds: {what} differ. {make}")
    return tuple(opened)


def open_teacher_views(teachers: Sequence[StoreReader], n: int, dataset: str) -> tuple[tuple[StoreReader, ...], ...]:
    """For each of the teachers' stores, those of its views 1 to ``n``; see :func:`open_views`."""
    commands = [how_to_make_views(dataset, store.meta.name, NO_TEACHER, n) for store in teachers]
    return tuple(open_views(store, n, make) for store, make in zip(teachers, commands, strict=True)) if n else ()


def how_to_make_views(dataset: str, teacher: str, student: str, n: int) -> str:
    """The command that makes the views of a student's mels, or of a teacher's embeddings."""
    option = "--teacher-views" if student == NO_TEACHER else "--views"
    east = f"east extract --data {dataset} --teacher {teacher} --student {student} {option} {n}"
    return f"Make it with `{east}`."


def _place_of_view(path: str, view: int) -> str | None:
    """Where the store of a view is: beside the folder of the extractor, under the same name."""
    if "://" in path:
        folder, _, name = path.rstrip("/").rpartition("/")
        return f"{folder}-view{view}/{name}"
    here = Path(path).absolute()
    beside = here.parent.with_name(f"{here.parent.name}-view{view}") / here.name
    suffixes = dict.fromkeys((here.suffix, *layout.SUFFIXES.values()))
    return next((str(found) for suffix in suffixes if (found := beside.with_suffix(suffix)).exists()), None)


def resolve_device(asked: str) -> str:
    """``cpu``, ``cuda:N`` or ``mps``; ``auto`` takes the first GPU there is.

    Raises:
        SettingError: a device that is not there, or a name that is none.
    """
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if asked == "cpu":
        return asked
    if asked == "mps" and torch.backends.mps.is_available():
        return asked
    kind, _, index = asked.partition(":")
    if kind == "cuda" and (index.isdecimal() or not index):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) < count:
            return f"cuda:{index or 0}"
        built = "" if torch.version.cuda else " This PyTorch was built without CUDA."
        raise SettingError(f"--device {asked}: there are {count} CUDA devices here.{built} Use --device cpu or auto.")
    raise SettingError(f"--device {asked} is not available here. Use auto, cpu, cuda, cuda:N or mps.")


def resolve_devices(asked: str, n: int) -> tuple[str, ...]:
    """A device for each of ``n`` processes: GPUs of their own, or the CPU for all of them.

    Raises:
        SettingError: fewer GPUs than processes, or one listed twice.
    """
    import torch

    kind, _, listed = asked.partition(":")
    if n == 1:
        return (resolve_device(asked),)
    if "," in listed:
        found = tuple(resolve_device(f"{kind}:{index.strip()}") for index in listed.split(","))
        if len(set(found)) < n:
            raise SettingError(f"--device {asked} lists a device twice: each process needs its own.")
        return found
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return ("cpu",) * n
    if kind not in ("auto", "cuda") or listed:
        raise SettingError(f"--device {asked} is one device, but --devices asks for {n}. Use cuda, cpu, or a list.")
    return tuple(resolve_device(f"cuda:{index}") for index in range(n))


def _checked(store: StoreReader, clip_s: float, listener: Listener) -> StoreReader:
    if abs(store.meta.clip_s - clip_s) > _TOLERANCE_S:
        raise StoreError(
            f"{store.path} holds clips of {store.meta.clip_s:g} s, but the clip table has clips of {clip_s:g} s. "
            "Extract again for this table, or give the table that the store was made for."
        )
    if "://" not in store.path and (twins := _twins(Path(store.path))):
        listener(Warned(f"{store.path} is read, not {twins[0]}, which is there, too. --store names the one to read."))
    if not store.meta.complete:
        done = int((store.state == 1).sum())
        listener(Warned(f"{store.meta.name} is not complete: {done:,} of {len(store):,} clips are there."))
    return store


def _twins(path: Path) -> list[Path]:
    """The same output in other formats."""
    others = (path.with_suffix(suffix) for suffix in layout.SUFFIXES.values() if suffix != path.suffix)
    return [other for other in others if other.exists()]


def _below(dataset: str, extractor: str, output: str = "") -> list[str]:
    """Paths of an extractor's stores; one format per output, the one that was written last."""
    outputs = {path.stem for path in layout.list_stores(dataset) if path.parent.name == extractor}
    found = [layout.find_store(dataset, extractor, name) for name in sorted(outputs) if output in ("", name)]
    return [str(path) for path in found if path]


def _find(name: str, dataset: str) -> str:
    request, outputs = registry.split_request(name)
    extractor, output = registry.folder_name(request), "+".join(outputs)
    found = _below(dataset, extractor, output)
    if not found:
        raise StoreError(f"There is no store of {name} for {dataset!r}. {_how_to_make(name, dataset)}")
    if len(found) > 1:
        names = ", ".join(f"{extractor}/{Path(path).stem}" for path in found)
        raise SettingError(f"{extractor} has several stores for {dataset!r}: {names}. Name one: --teacher {names}")
    return found[0]


def _only(dataset: str) -> str:
    found = _teacher_stores(dataset)
    if not found:
        raise StoreError(f"There is no teacher store for {dataset!r}. {_how_to_make('musicnn', dataset)}")
    if len(found) > 1:
        raise SettingError(f"There are several teacher stores for {dataset!r}. {_choices(dataset)}")
    return next(iter(found.values()))


def _teacher_stores(dataset: str) -> dict[str, str]:
    """``EXTRACTOR/OUTPUT`` to path, of all stores that are not mels."""
    found: dict[str, str] = {}
    for extractor, output in dict.fromkeys((path.parent.name, path.stem) for path in layout.list_stores(dataset)):
        path = layout.find_store(dataset, extractor, output)
        assert path is not None
        with open_store(path) as store:
            if not _is_mel(store) and "view" not in store.meta.card.get("parameters", {}):
                found[f"{extractor}/{output}"] = str(path)
    return found


def _is_mel(store: StoreReader) -> bool:
    return store.meta.card.get("kind") == "mel"


def _choices(dataset: str) -> str:
    names = list(_teacher_stores(dataset))
    return f"Choose with --teacher (comma separated for several, or {NO_TEACHER}): {', '.join(names) or 'none there'}."


def _how_to_make(teacher: str, dataset: str, student: str = "") -> str:
    make = f"make extract TEACHER={teacher} DATA={dataset}" + (f" STUDENT={student}" if student else "")
    east = f"east extract --teacher {teacher} --data {dataset}" + (f" --student {student}" if student else "")
    return f"Make it with `{make}` or `{east}`."
