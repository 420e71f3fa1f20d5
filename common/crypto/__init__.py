"""Secure aggregation: ring, keys, masks, secret shares, and the protocol that joins them."""
