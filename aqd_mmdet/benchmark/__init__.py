"""Speed of the engine beside others, on one machine in one run."""
