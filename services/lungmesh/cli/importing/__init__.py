"""Bring your own weights: a foreign detector becomes a model of the repository."""
