"""Rows of one or several leaderboards: their fields, filters and orders."""

__all__ = ["conditions", "row_fields", "selected_rows"]
