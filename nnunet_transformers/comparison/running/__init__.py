"""Run the steps of an experiment, here or on a cluster."""
