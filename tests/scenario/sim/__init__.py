"""The simulator: a virtual clock, both nodes in one process, the real commands and the real heartbeat."""
