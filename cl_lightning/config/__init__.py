"""The configuration: typed, filled in and checked once, before anything is trained.

Hydra and OmegaConf stop here: everything behind gets the plain dataclasses of ``schema``.
"""
