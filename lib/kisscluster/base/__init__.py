"""What every command shares: configuration, state files, exit codes, running programs, the command line."""
