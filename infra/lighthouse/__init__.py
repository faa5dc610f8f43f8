"""Measures a page as a user's browser sees it (DEP-2): performance, accessibility, best practices."""

from infra.lighthouse.run import CATEGORIES, LighthouseError, Measurement, Page, measure

__all__ = ["CATEGORIES", "LighthouseError", "Measurement", "Page", "measure"]
