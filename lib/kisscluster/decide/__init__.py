"""Facts become a decision, decision and facts become a plan: pure functions, no clock, no files."""
