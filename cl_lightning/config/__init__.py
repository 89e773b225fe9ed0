"""The configuration: typed, filled in and checked once, before anything is trained.

Hydra and OmegaConf stop here: all other packages get the plain dataclasses of ``schema``.
"""
