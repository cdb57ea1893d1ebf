"""Trainings beyond the search, which question its results: compare, confirm, ablate, stress."""
