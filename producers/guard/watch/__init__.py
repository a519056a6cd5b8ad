"""What a guard looks at, and what it concludes: the account, hard limits, silence."""
