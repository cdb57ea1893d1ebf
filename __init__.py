"""Discover better decoder blocks for language models, and import them as Flax modules."""
