"""The runtime of consumer groups: read in order, handle purely, commit in one step."""
