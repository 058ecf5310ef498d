"""Datasets: each becomes one clip table.

A dataset of its own name has a card (a ``DatasetCard`` in ``CARDS`` of a module ``NAME_card``) whose
builder has the signature ``(card, folder: Path, *, listener: Listener, **options) -> ClipTable``.
It gets a value for each of ``card.options``.  Where ``card.can_build``, it makes the audio below
``folder``; else ``folder`` is where the user has it.
"""
