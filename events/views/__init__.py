"""What people see of the bridge: collected from the log, rendered for a terminal or as JSON."""
