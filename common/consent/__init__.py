"""How a federation is founded, and what an institution says yes to."""
