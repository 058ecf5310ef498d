"""PaSST: an audio spectrogram transformer trained on AudioSet with patchout (Koutini et al. 2022)."""
