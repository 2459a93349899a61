"""A stand-in for DRBD 8.4 where the kernel module is missing: the same rules, commands and texts."""
