"""Transformer architectures as trainers for stock nnU-Net v2.

Nothing is imported here: this module is loaded at the start of every Python process of the environment (see `plugin`).
"""

__version__ = "0.1.0"
