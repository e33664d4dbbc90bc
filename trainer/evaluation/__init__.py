"""Held-out losses: of what, when, how they are measured, and what was forgotten since a switchpoint."""
