"""Tools for operators: check, simulate, verify, init-broker, forget. The product runs without them."""
