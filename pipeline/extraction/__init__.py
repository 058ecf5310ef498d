"""Stage one: audio to stores of features."""
