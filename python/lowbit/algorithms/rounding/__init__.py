"""How a weight finds its codes: one method a file."""
