"""Write ``student/`` beside this file: the run folder of a tiny student, and its export.

    python tests/golden/make_student.py

Tests read the export without exporting, which takes seconds.  After a change of cnn-small, of the
front end mel-small or of the graph it is made again.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

from lively import lively_run  # noqa: E402

from pipeline.deployment.export import export_onnx  # noqa: E402

if __name__ == "__main__":
    folder = lively_run(HERE / "student")
    print(export_onnx(folder, folder / "student.onnx", replace=True).text())
