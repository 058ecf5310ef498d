"""The command that makes a run, from what the run says of itself."""

from __future__ import annotations

import shlex
from dataclasses import fields

from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.evaluation.runs import Run


def command_of(run: Run) -> str:
    """``east train ...`` or ``east probe ...`` with all settings that are not the default.

    The device, threads and memory are not part of a run's settings, so they are not there.
    """
    settings = TrainSettings if run.kind == "student" else ProbeSettings
    words = ["east", "train" if run.kind == "student" else "probe"]
    for spec in fields(settings):
        value = run.group if spec.name == "group" else run.config.get(spec.name)
        option = "--" + spec.name.replace("_", "-")
        if value is None or value == spec.default or value in ([], ""):
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return shlex.join(words)
