"""Renderers behind ``east data build``: scores to notes, notes to arrangements, arrangements to audio."""
