"""Stores between teams: card, catalogue, push, pull."""
