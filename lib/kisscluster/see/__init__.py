"""The outside becomes facts: heartbeats, pings, /proc/drbd and the state files."""
