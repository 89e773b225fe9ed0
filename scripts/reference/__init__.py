"""Recorded runs and golden vectors of published code, compared with ours (no part of the installed package)."""
