"""What people use of a guard: halt, flatten, resume, and the drill."""
