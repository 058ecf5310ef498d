"""The ``east`` command: the root group on one screen."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

from pipeline import __version__
from pipeline.commands.data import data
from pipeline.commands.evaluate import compare, evaluate, report
from pipeline.commands.experiment import experiment
from pipeline.commands.export import export
from pipeline.commands.extract import extract
from pipeline.commands.lists import datasets, students, teachers
from pipeline.commands.predict import predict
from pipeline.commands.rank import rank
from pipeline.commands.runs import runs
from pipeline.commands.store import store
from pipeline.commands.sweep import sweep
from pipeline.commands.table import table
from pipeline.commands.train import losses, probe, train
from pipeline.commands.weights import weights
from pipeline.errors import EastError
from pipeline.stopping import terminable
from pipeline.texts import printable

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Data": (data,),
    "Stage one": (extract,),
    "Stores": (store,),
    "Stage two": (train, probe, experiment, table, sweep, evaluate, compare, report, predict, export),
    "Lists": (runs, teachers, students, losses, datasets, weights),
}


#: Commands that do not begin again when they are given again after an interruption.
_GO_ON = frozenset(
    ["extract", "train", "experiment", "table", "sweep", "data build", "weights get"]
    + [f"store {name}" for name in ("merge", "subset", "convert", "pool", "import", "push", "pull")]
)
_BEGINS_AGAIN = "Nothing is left half-written; the same command begins again."


class _Sectioned(click.Group):
    """A group whose help lists its commands by section."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            if not commands:
                continue
            with formatter.section(title):
                formatter.write_dl([(command.name or "", command.get_short_help_str(80)) for command in commands])


@click.group(cls=_Sectioned, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="east")
@click.option("-v", "--verbose", is_flag=True, help="Say more: every shard, every epoch.")
@click.option("-q", "--quiet", is_flag=True, help="Say only results, warnings and errors.")
@click.pass_context
def east(ctx: click.Context, verbose: bool, quiet: bool) -> None:
    """Train small music classifiers that learn from big ones: embeddings as teachers.

    Stage one extracts teacher embeddings and mels from all audio into stores; stage two trains
    students from the stores alone.

    Exit status: 0 done; 1 something failed or cannot be done, and one message says what; 2 an option,
    argument or setting is wrong; 130 interrupted, by Ctrl-C, or 143 by SIGTERM. `east store diff` has
    two of its own.
    """
    ctx.obj = {"verbose": verbose, "quiet": quiet}


teachers.add_command(rank)
for _commands in SECTIONS.values():
    for _command in _commands:
        east.add_command(_command)


def _interrupted(arguments: Sequence[str]) -> str:
    """What the same command will do."""
    names = [name for name in arguments if not name.startswith("-")]
    goes_on = bool(names) and (names[0] in _GO_ON or " ".join(names[:2]) in _GO_ON)
    return "What was finished is kept; the same command goes on from there." if goes_on else _BEGINS_AGAIN


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; one error becomes one message and one exit code."""
    with terminable() as term:
        try:
            status = east.main(args=arguments, prog_name="east", standalone_mode=False)
            if isinstance(status, int) and status:  # a command that says something by it, such as store diff
                sys.exit(status)
        except click.ClickException as error:
            said = io.StringIO()
            error.show(said)
            click.echo(printable(said.getvalue()), err=True, nl=False)
            sys.exit(error.exit_code)
        except EastError as error:
            click.echo(printable(f"error: {error}"), err=True)
            for note in getattr(error, "__notes__", ()):
                click.echo(printable(f"  {note}"), err=True)
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            what = "Stopped by SIGTERM." if term.came else "Interrupted."
            click.echo(f"{what} {_interrupted(sys.argv[1:] if arguments is None else arguments)}", err=True)
            sys.exit(143 if term.came else 130)
        except BrokenPipeError:
            sys.exit(141)


if __name__ == "__main__":
    main()
