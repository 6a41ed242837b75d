"""What an experiment is, and the file it is read from."""
