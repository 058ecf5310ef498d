"""Recipes: tables of settings that become runs."""
