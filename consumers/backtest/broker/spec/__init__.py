"""What an account and its instruments are: from recorded events, or from a file."""
