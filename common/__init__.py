"""What server, institutions and simulator agree on: pure code without files or clock."""

__version__ = "0.1.0"
