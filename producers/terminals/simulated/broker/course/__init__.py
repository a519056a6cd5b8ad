"""What befalls an account in the course of time: prices that reach a level, nights."""
