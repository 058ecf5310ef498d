"""VGGish: the AudioSet embedding of Google, from the files of its PyTorch port."""
