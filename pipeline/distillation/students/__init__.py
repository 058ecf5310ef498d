"""Students, one module and one card each."""
