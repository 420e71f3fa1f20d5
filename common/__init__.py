"""What server, institutions and simulator agree on: pure code without files or clock."""
