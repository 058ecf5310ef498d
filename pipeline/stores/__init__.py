"""Stores of features: one schema over Zarr v3 and HDF5, one reader, one writer."""

from pipeline.stores.oneshot import write_store
from pipeline.stores.opening import open_store
from pipeline.stores.reader import ClipArrays, StoreReader
from pipeline.stores.schema import State, StoreMeta, example_meta
from pipeline.stores.target import ShardTarget
from pipeline.stores.writer import StoreWriter

__all__ = [
    "ClipArrays",
    "ShardTarget",
    "State",
    "StoreMeta",
    "StoreReader",
    "StoreWriter",
    "example_meta",
    "open_store",
    "write_store",
]
