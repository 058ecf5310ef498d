"""Trained students at work: prediction and export, with no teacher near."""
