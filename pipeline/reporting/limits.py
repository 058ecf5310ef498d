"""What the numbers do not say, in words, and what was measured before at larger size."""

from __future__ import annotations

from pipeline.evaluation.results import Comparison

EARLIER = (
    ("EAsT-KD, 400 labelled", "0.487", "0.522", "+0.035", "+0.034"),
    ("KD on 8,000 clips, 400 labelled", "0.487", "0.710", "+0.222", "+0.199"),
    ("EAsT-KD, all 4,000 labelled", "0.790", "0.814", "+0.024", "+0.040"),
)
EARLIER_COLUMNS = ("earlier experiment", "labels only", "with teachers", "difference", "unseen sounds")
EARLIER_NOTE = (
    "Measured by us in November 2026 before this run, on clips of 10 s of the dataset scores with 18 classes, with "
    "cnn-small and the teachers MusiCNN and YAMNet, mAP on 700 test clips, five seeds. It is "
    "quoted, not measured again here; docs/experiments has recipes and tables."
)


def limits(comparison: Comparison) -> list[str]:
    """Sentences, each one limit of what the table may be taken to say."""
    found = [_seeds(comparison), _interval(comparison)]
    if _rendered(comparison):
        found.insert(
            0,
            "The clips are scores rendered with sampled instruments, not recorded performances: rooms, microphones, "
            "playing and production are missing, so values on recordings will differ.",
        )
    if any(name.startswith("test-unseen") for name in comparison.sets):
        found.append(
            "The set of sounds never trained on renders the same music with another sound bank. It shows how much of a "
            "value is memory of the training sounds; it is still rendered."
        )
    found.append(
        "The gain belongs to few labels. With every clip labelled it was a tenth of that in our experiment, below."
    )
    found.append("The teacher was trained by others on other recordings; what it knows, and its licence, come along.")
    left_out = sorted({name for row in comparison.rows for result in row.sets.values() for name in result.left_out})
    if left_out:
        found.append(f"Left out of the means, for lack of a positive or a negative label: {', '.join(left_out)}.")
    return found


def _rendered(comparison: Comparison) -> bool:
    card = comparison.card
    text = " ".join(str(card.get(key, "")) for key in ("summary", "source", "licence"))
    return "render" in (text + comparison.dataset.licence).lower()


def _seeds(comparison: Comparison) -> str:
    counts = sorted({len(row.seeds) for row in comparison.rows})
    words = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts[-1] == 1:
        return "One seed per row: chance of initialisation and of which clips are labelled is not measured at all."
    return (
        f"Each row has {words} seeds, so its ± is a rough guess; a seed changes initialisation and the labelled clips."
    )


def _interval(comparison: Comparison) -> str:
    unit = "clips" if comparison.unit == "clip" else "groups (songs, works)"
    also = " Clips of one piece resemble each other, so they are somewhat too narrow." if unit == "clips" else ""
    return (
        f"Intervals hold 95 % of {comparison.n_resamples:,} bootstrap resamples of the test "
        f"{unit}; they tell of the test set, not of other data.{also}"
    )
