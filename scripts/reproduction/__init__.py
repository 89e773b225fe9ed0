"""Parts of ``scripts/reproduce.py``."""
