"""Folds of the cross-validation: cut by us, or taken from a list."""
