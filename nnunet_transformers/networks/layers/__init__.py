"""Building blocks of the networks, one concept per file."""
