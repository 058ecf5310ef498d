"""openl3 0.4.2 from file: ``python -P openl3_original.py WEIGHTS.h5 FOLDER HOP_S``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.append(str(Path(__file__).parent))
import openl3
import soundfile
import tensorflow as tf
from clock import measure

tf.config.threading.set_intra_op_parallelism_threads(2)
tf.config.threading.set_inter_op_parallelism_threads(2)
# The model that get_audio_embedding would load by itself; its weights are ours here.
model = openl3.models.load_audio_embedding_model_from_path(sys.argv[1], "mel128", 512, frontend="kapre")
hop_s = float(sys.argv[3])


def embed(path: Path) -> None:
    """As the package's own example does."""
    audio, rate_hz = soundfile.read(path)
    openl3.get_audio_embedding(audio, rate_hz, model=model, hop_size=hop_s, verbose=False)


measure(sys.argv[2], embed)
