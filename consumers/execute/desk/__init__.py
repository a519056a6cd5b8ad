"""What people switch and see of acting on signals."""
