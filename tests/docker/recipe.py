"""What a Dockerfile and a compose file say, as far as ours use their words."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any

import yaml

from tests.commands import ROOT

FOLDER = ROOT / "docker"
WORDS = re.compile("FROM|ARG|ENV|RUN|COPY|WORKDIR|USER|EXPOSE|HEALTHCHECK|ENTRYPOINT|CMD")


@dataclass(frozen=True)
class Step:
    """An instruction: its word, its ``--name=value`` options in order, and the rest."""

    word: str
    options: tuple[tuple[str, str], ...]
    rest: str

    @property
    def form(self) -> list[str]:
        """The words of the exec form; a shell would stand between us and the signals."""
        words: list[str] = json.loads(self.rest.removeprefix("CMD "))
        return words


@dataclass(frozen=True)
class Stage:
    """A ``FROM`` and what follows it."""

    name: str
    base: str
    steps: tuple[Step, ...]

    def all(self, word: str) -> list[Step]:
        return [step for step in self.steps if step.word == word]


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile."""

    text: str

    @cached_property
    def steps(self) -> list[Step]:
        """Its instructions; raise ValueError at a word of no Dockerfile of ours."""
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("#")]
        joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
        return [_step(line) for line in joined.splitlines() if line.strip()]

    @cached_property
    def arguments(self) -> dict[str, str]:
        """Arguments from before the first stage, with their defaults."""
        first = next(i for i, step in enumerate(self.steps) if step.word == "FROM")
        pairs = [step.rest.partition("=") for step in self.steps[:first]]
        return {name: value for name, _, value in pairs}

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Stages by name; each must have one."""
        found: dict[str, Stage] = {}
        for step in self.steps:
            if step.word == "FROM":
                base, _, name = step.rest.partition(" AS ")
                if not name or name in found:
                    raise ValueError(f"FROM {step.rest}: a stage has a name of its own")
                last = name
                base = Template(base).substitute(self.arguments)
                found[name] = Stage(name, base, ())
            elif found:
                stage = found[last]
                found[last] = Stage(stage.name, stage.base, (*stage.steps, step))
        return found

    def chain(self, target: str) -> list[Stage]:
        """Return the stages whose layers are in the image ``target``, the lowest first."""
        stage = self.stages[target]
        below = self.chain(stage.base) if stage.base in self.stages else []
        return [*below, stage]


def _step(line: str) -> Step:
    word, _, rest = line.strip().partition(" ")
    if not WORDS.fullmatch(word):
        raise ValueError(f"{word!r} is no instruction that is known here")
    options = []
    while found := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
        options.append((found[1], found[2]))
        rest = rest[found.end() :]
    return Step(word, tuple(options), rest)


def pairs(rest: str) -> list[list[str]]:
    """Return the names and values of an ``ENV``."""
    return [part.split("=", 1) for part in rest.split()]


@dataclass(frozen=True)
class Service:
    """A service of a compose file."""

    name: str
    fields: dict[str, Any]

    @property
    def target(self) -> str:
        return str(self.fields["build"]["target"])

    @property
    def environment(self) -> dict[str, str]:
        given: dict[str, str] = self.fields.get("environment", {})
        return given

    @property
    def volumes(self) -> list[tuple[str, str, bool]]:
        """Source, target, and whether it may be written."""
        parts = [str(volume).split(":") for volume in self.fields["volumes"]]
        return [(part[0], part[1], part[2:] != ["ro"]) for part in parts]

    @property
    def secrets(self) -> list[tuple[str, str]]:
        """Source, and the file's name in ``/run/secrets``."""
        return [(one["source"], one["target"]) for one in self.fields["secrets"]]

    @property
    def networks(self) -> list[str]:
        named: list[str] = self.fields["networks"]
        return named

    @property
    def tmpfs(self) -> list[tuple[str, str]]:
        """Target and mount options."""
        listed = [str(one).partition(":") for one in self.fields.get("tmpfs", [])]
        return [(target, options) for target, _, options in listed]


@dataclass(frozen=True)
class Compose:
    """A compose file."""

    fields: dict[str, Any]

    @cached_property
    def services(self) -> dict[str, Service]:
        return {name: Service(name, fields) for name, fields in self.fields["services"].items()}

    def secret(self, source: str) -> str:
        """Return the file of a secret."""
        return str(self.fields["secrets"][source]["file"])


def read_recipe(path: Path = FOLDER / "Dockerfile") -> Recipe:
    return Recipe(path.read_text())


def read_compose(path: Path = FOLDER / "compose.yaml") -> Compose:
    return Compose(yaml.safe_load(path.read_text()))
