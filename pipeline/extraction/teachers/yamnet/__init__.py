"""YAMNet: an AudioSet tagger on a MobileNet, from its TensorFlow checkpoint."""
