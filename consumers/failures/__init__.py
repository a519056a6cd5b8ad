"""What becomes of entries that a handler cannot bear: dead letters, halts, quarantine."""
