"""The laboratories: pairs of test nodes on one machine, and what can be done to them."""
