"""Numbers of the published implementations, and a slow re-implementation that makes more files like them."""

from pathlib import Path

GOLDEN = Path(__file__).parent
"""The folder of the .npz files."""
