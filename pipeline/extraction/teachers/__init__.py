"""Teachers, one package each; their ``card.py`` is found by the registry."""
