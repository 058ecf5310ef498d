"""Recipes: settings in files that become runs, tables of runs, and searches."""
