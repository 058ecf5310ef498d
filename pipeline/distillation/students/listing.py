"""Students as plain rows: what their cards say, and what they cost and see."""

from __future__ import annotations

from typing import Any

from pipeline import registry
from pipeline.cards import StudentCard
from pipeline.distillation.students.costs import student_costs, student_speed

__all__ = ["list_students"]

Row = dict[str, Any]


def list_students(*, measure: bool = False) -> list[Row]:
    """One row per student: its card, what it costs and sees, and with ``measure`` how fast it is here."""
    return [_student_row(card, measure=measure) for _, card in sorted(registry.students().items())]


def _student_row(card: StudentCard, *, measure: bool) -> Row:
    costs = student_costs(card)
    row = {
        "name": card.name,
        "front_end": card.front_end,
        "stages": list(card.stage_names),
        "stage_channels": list(card.stage_channels),
        "stage_frames": list(card.stage_frames),
        "example_frames": card.example_frames,
        "classes": card.n_classes,
        "parameters": costs.n_parameters,
        "macs_per_s": costs.macs_per_s,
        "field_s": costs.field_s,
        "field_mels": costs.field_mels,
        "mels": costs.n_mels,
        "licence": card.licence,
        "summary": card.summary,
        "citation": card.citation,
    }
    if measure:
        speed = student_speed(card)
        row |= {"real_time_factor": speed.real_time_factor, "front_end_share": speed.front_end / speed.real_time_factor}
    return row
