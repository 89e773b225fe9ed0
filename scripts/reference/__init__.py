"""Runs of published code, recorded step by step, and ours beside them (no part of the installed package)."""
