"""What becomes of order intents: written down, checked, sent at most once, reconciled, answered."""
