"""Preflight: what a teacher must do before a store is written from it, tried on short signals.

A teacher that depends on its neighbours in the batch, on padding or on chance fills a store with
numbers that look like any others.  The checks find that in seconds.
"""

from pipeline.extraction.preflight.checks import CHECKS, check_extractor
from pipeline.extraction.preflight.result import Check, Report

__all__ = ["CHECKS", "Check", "Report", "check_extractor"]
