"""Networks in pure PyTorch, one per file, under one contract (docs/design.md)."""
