"""What losses are measured from, taken up again out of the archive."""
