"""The clip table: which clips there are, where their audio is, their labels and splits.

Every dataset becomes one :class:`ClipTable`.  A clip is a segment of a file (start, duration), all
of one greatest length ``clip_s``; long recordings are many clips.
"""

from pipeline.manifest.checks import Problem, check_table, require_valid
from pipeline.manifest.table import TRAIN, UNKNOWN, UNLABELLED, VALID, ClipTable, by_file, clip_id, is_url
from pipeline.manifest.tablefiles import read_table, write_csv, write_table

__all__ = [
    "TRAIN",
    "UNKNOWN",
    "UNLABELLED",
    "VALID",
    "ClipTable",
    "Problem",
    "by_file",
    "check_table",
    "clip_id",
    "is_url",
    "read_table",
    "require_valid",
    "write_csv",
    "write_table",
]
