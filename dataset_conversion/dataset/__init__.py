"""The dataset folder: where it goes, what is put into it, and what is written about it."""
