"""From a plan to the arguments of a network."""
