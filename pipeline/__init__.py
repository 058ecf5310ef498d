"""EAsT: embeddings as teachers for small music classifiers.

The flow, in two halves that meet only at the store::

            STAGE ONE  pipeline.extraction                    STAGE TWO  pipeline.distillation
    audio -> clip table -> decode -> extractor -> STORE -> batches -> student + losses -> run
                           resample  (mel, teacher) Zarr | HDF5                        (metrics, weights)

Nothing in ``distillation`` or ``deployment`` imports ``extraction``, and ``extraction`` imports
nothing of theirs.  Nothing is imported here, so that a cheap command stays cheap.
"""

__version__ = "0.1.0"
