"""Comparisons as tables, figures and one page."""
