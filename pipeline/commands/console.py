"""The only place that prints: events in, bars and lines out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pipeline.events import (
    ClipFailed,
    ClipShort,
    EpochDone,
    Event,
    Listener,
    Note,
    ShardDone,
    TaskAdvanced,
    TaskFinished,
    TaskStarted,
    Warned,
)
from pipeline.texts import printable

_PLAIN_EVERY_S = 10.0


class _RateColumn(ProgressColumn):
    """Units per second since the start."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text(f"{rate:,.1f} {unit}/s" if rate else f"- {unit}/s", style="cyan")


class Renderer:
    """A listener that draws bars on a terminal and prints a line now and then elsewhere."""

    def __init__(self, console: Console, *, verbose: bool, quiet: bool) -> None:
        self.console, self.verbose, self.quiet = console, verbose, quiet
        self.live = console.is_terminal and not quiet
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}" if self.live else ""),
            _RateColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=False,
            disable=not self.live,
        )
        self._ids: dict[str, TaskID] = {}
        self._printed_at: dict[str, float] = {}
        self._found: dict[TaskID, float] = {}
        self._unsaid: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Render one event."""
        match event:
            case TaskStarted():
                self._start(event)
            case TaskAdvanced():
                self._advance(event)
            case TaskFinished():
                self._finish(event)
            case Note(text):
                if not self.quiet:
                    self.console.print(_safe(text), highlight=False, soft_wrap=True)
            case Warned(text):
                self.console.print(f"[yellow]warning:[/yellow] {_safe(text)}", highlight=False, soft_wrap=True)
            case ClipFailed(clip_id, kind, reason):
                self.console.print(
                    f"[red]failed[/red] {_safe(clip_id)} ({_safe(kind)}): {_safe(reason)}", soft_wrap=True
                )
            case ClipShort(clip_id, reason):
                self.console.print(f"[yellow]short[/yellow] {_safe(clip_id)}: {_safe(reason)}", soft_wrap=True)
            case EpochDone():
                self._epoch(event)
            case ShardDone():
                if self.verbose:
                    self.console.print(
                        f"{_safe(event.store)}: shard {event.shard}, {event.n_done} done, {event.n_failed} failed",
                        soft_wrap=True,
                    )

    def _start(self, event: TaskStarted) -> None:
        self._ids[event.task] = self.progress.add_task(_safe(event.task), total=event.total, unit=event.unit, detail="")
        self._printed_at[event.task] = self.progress.get_time()
        self._unsaid.add(event.task)

    def _advance(self, event: TaskAdvanced) -> None:
        if event.task not in self._ids:
            return
        key = self._ids[event.task]
        if event.found:  # set by hand, since what rich is told enters its rate
            self._found[key] = self._found.get(key, 0.0) + event.amount
            self._task(key).completed += event.amount
        self.progress.update(key, advance=0.0 if event.found else event.amount, detail=_safe(event.detail))
        now = self.progress.get_time()
        begins = not event.amount and event.task in self._unsaid
        due = begins or now - self._printed_at[event.task] >= _PLAIN_EVERY_S
        if due and not self.live and not self.quiet:
            self._printed_at[event.task] = now
            self._print_plain(event.task)

    def _finish(self, event: TaskFinished) -> None:
        key = self._ids.pop(event.task, None)
        if key is None:
            return
        if not self.live and not self.quiet:
            self._print_plain_id(event.task, key)
        self.progress.stop_task(key)

    def _epoch(self, event: EpochDone) -> None:
        if self.verbose:
            values = ", ".join(f"{key} {value:.4g}" for key, value in event.values.items())
            self.console.print(
                f"{_safe(event.run)} step {event.step}: {_safe(values)}", highlight=False, soft_wrap=True
            )

    def _task(self, key: TaskID) -> Task:
        return next(task for task in self.progress.tasks if task.id == key)

    def _print_plain(self, task: str) -> None:
        self._print_plain_id(task, self._ids[task])

    def _print_plain_id(self, name: str, key: TaskID) -> None:
        self._unsaid.discard(name)
        task = self._task(key)
        elapsed = task.elapsed or 0.0
        rate = (task.completed - self._found.get(key, 0.0)) / elapsed if elapsed else 0.0
        total = f"/{task.total:,.0f}" if task.total else ""
        to_do = max(0.0, (task.total or 0.0) - task.completed)
        left = f", {to_do / rate:,.0f} s left" if to_do and rate else ""
        unit, detail = task.fields.get("unit", ""), task.fields["detail"] and f", {task.fields['detail']}"
        speed = f", {rate:,.1f} {unit}/s" if rate else ""
        self.console.print(
            f"{_safe(name)}: {task.completed:,.0f}{total} {unit}{speed}{left}{detail}",
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener for the running command; its bars are closed at the end."""
    settings = click.get_current_context().find_root().obj or {}
    console = Console(stderr=True, force_terminal=None)
    renderer = Renderer(console, verbose=bool(settings.get("verbose")), quiet=bool(settings.get("quiet")))
    with renderer.progress:
        yield renderer


def _safe(text: str) -> str:
    """A text from anywhere as it may stand between rich's marks: nothing in it steers rich, or the terminal."""
    return escape(printable(text))


def show(text: str) -> None:
    """Print a result line to standard output."""
    click.echo(printable(text))


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = (), width: int = 160
) -> None:
    """Print a result table to standard output; columns in ``numeric`` are right-aligned.

    Args:
        width: in characters, where standard output is no terminal.
    """
    table = Table(
        title=_safe(title) or None, title_justify="left", header_style="bold", show_edge=False, pad_edge=False
    )
    for index, name in enumerate(columns):
        table.add_column(_safe(name), justify="right" if index in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_safe(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else width).print(table)
