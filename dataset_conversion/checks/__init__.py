"""What must hold of a file, of a case, and of all cases together."""
