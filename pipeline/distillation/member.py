"""One of the processes of a run: ``python -m pipeline.distillation.member``, started by ``processes``.

It reads its part and the settings from standard input, trains, and writes one JSON object a line to
standard output: events, that the run is ready for the others, or why it failed.  When standard input
ends, the process that started it is gone, and so is this one.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from threading import Thread
from typing import Any

from pipeline.distillation.processes import Part
from pipeline.distillation.settings import from_mapping
from pipeline.distillation.trainer import train_part
from pipeline.errors import EastError
from pipeline.events import Event


def main() -> int:
    """Train this process's part; 0 when all went well."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no message
    given = json.loads(sys.stdin.readline())
    Thread(target=_leave_with_parent, daemon=True).start()
    part = Part(**given["part"])

    def send(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def listener(event: Event) -> None:
        if part.writes:
            send(event=type(event).__name__, **asdict(event))

    try:
        train_part(from_mapping(given["settings"]), part, listener, lambda resumed: send(ready=resumed))
    except EastError as error:
        send(failed={"type": type(error).__name__, "text": str(error)})
        return error.exit_code
    except Exception as error:
        send(failed={"type": "", "text": f"{type(error).__name__}: {error}"})
        raise
    return 0


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
