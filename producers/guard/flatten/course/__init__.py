"""Why a flatten runs, how it behaves, and what it tells."""
