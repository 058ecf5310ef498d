"""Any audio encoder of the transformers library: wav2vec 2.0 and its kin, Whisper, AST, CLAP."""
