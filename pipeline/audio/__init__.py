"""Samples in, mels out: the decoder, timing in integers, the extractor contract, views."""
