"""Numbers of trained students and probes, from their predictions alone."""
