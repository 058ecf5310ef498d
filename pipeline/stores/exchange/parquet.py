"""Features as one Parquet file, a row per clip.

Columns: ``clip_id`` (text), ``n_frames`` (int32), ``features`` (a list of frames, each a list of channels,
both of fixed size, float32). Facts stand as JSON under the key ``east`` of the schema's metadata.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import SettingError
from pipeline.events import Listener
from pipeline.stores.exchange.blocks import Selection

#: Values are widened, encoded and compressed, each a copy.
_SHARE = 4
_MOST_LIST = (1 << 31) - 1


def write_parquet(path: Path, selection: Selection, listener: Listener) -> None:
    """One row group per block. float16 is widened, which loses nothing: few readers know it.

    Raises:
        SettingError: a clip that Parquet's lists cannot hold.
    """
    _, frames, channels = selection.shape
    if frames * channels > _MOST_LIST:
        raise SettingError(f"A clip of {frames} x {channels} numbers is too large for Parquet: take --to npy.")
    kind = pa.list_(pa.list_(pa.float32(), channels), frames)
    about = json.dumps(dict(selection.about), ensure_ascii=False, sort_keys=True)
    schema = pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("n_frames", pa.int32(), nullable=False),
            pa.field("features", kind, nullable=False),
        ],
        metadata={"east": about},
    )
    ids, n_frames, small = selection.clip_ids, selection.n_frames, ["clip_id", "n_frames"]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False, write_statistics=small) as writer:
        for place, features in selection.blocks(listener, _SHARE):
            flat = pa.array(np.ascontiguousarray(features, np.float32).reshape(-1))
            lists = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, channels), frames)
            columns = [pa.array(ids[place], pa.string()), pa.array(n_frames[place]), lists.cast(kind)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(features))
