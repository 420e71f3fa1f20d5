"""A named set of interchangeable functions that answers for itself."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Functions by name; an unknown name is answered with the known ones."""

    def __init__(self, kind: str) -> None:
        """Name what is registered, for the error message."""
        self._kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its function under ``name``."""

        def add(entry: T) -> T:
            self._entries[name] = entry
            return entry

        return add

    def require(self, name: str) -> T:
        """Return the entry; raise `ValueError` listing the known names."""
        if name not in self._entries:
            raise ValueError(f"unknown {self._kind} {name!r}; known: {', '.join(self.names)}")
        return self._entries[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted."""
        return tuple(sorted(self._entries))
