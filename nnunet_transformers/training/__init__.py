"""Trainers: a network, a recipe, and nothing else."""
