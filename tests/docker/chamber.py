"""An image and its containers without an engine: the recipe walked into a folder, and a chroot.

The base image is stood in for by this machine's ``/usr`` and Python, mounted so that nothing of
them can be written. The one step that is not done as it stands is the installation of the lock:
the packages this test runs with take its place, found by a ``.pth``.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from string import Template

from tests.commands import ROOT
from tests.docker.recipe import FOLDER, Compose, Recipe, Service, Step, pairs

PACKAGES = "/mnt/packages"
"""Where the packages of this test's environment are in every chamber."""

BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"}
LINKS = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
ETC = ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "ld.so.cache")
DEVICES = ("null", "zero", "full", "random", "urandom")
STEP_SECONDS = 240


@cache
def missing() -> str:
    """Say what this machine lacks for chambers in namespaces; nothing if it lacks nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces need root on Linux"
    tools = ("ip", "unshare", "nsenter", "setpriv", "chroot", "mount", "useradd")
    if lacking := [tool for tool in tools if shutil.which(tool) is None]:
        return f"no {', '.join(lacking)} here"
    trial = "mount -t tmpfs none /mnt && ip link set lo up"
    command = ("unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", trial)
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True)
class Mount:
    """Something of this machine, or a tmpfs, at a place in a chamber."""

    target: str
    source: Path | None = None
    options: str = "ro"


@dataclass(frozen=True)
class Image:
    """A root folder, and what the recipe says of processes in it."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=lambda: BASE_ENVIRONMENT)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()


def build(recipe: Recipe, target: str, folder: Path, context: Path = ROOT) -> Image:
    """Walk the steps of ``target``, and of the stages it takes files from, below ``folder``."""
    image = Image(folder / target)
    stages = recipe.chain(target)
    _lay_base(image.root)
    for stage in stages:
        for step in stage.steps:
            image = _take(recipe, step, image, context)
    return image


def _take(recipe: Recipe, step: Step, image: Image, context: Path) -> Image:
    """Return the image after a step; words that leave nothing in it are passed over."""
    match step.word:
        case "ENV":
            given = pairs(step.rest)
            known = {name: Template(value).substitute(image.environment) for name, value in given}
            image = replace(image, environment={**image.environment, **known})
        case "WORKDIR":
            (image.root / step.rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            image = replace(image, folder=step.rest)
        case "USER":
            image = replace(image, user=step.rest)
        case "ENTRYPOINT":
            image = replace(image, entrypoint=tuple(step.form))
        case "CMD":
            image = replace(image, command=tuple(step.form))
        case "HEALTHCHECK":
            image = replace(image, health=tuple(step.form))
        case "COPY" if (name := dict(step.options).get("from")) is not None:
            origin = image.root.parent / name
            if not origin.exists():
                build(recipe, name, origin.parent, context)
            _copy(origin, step, image)
        case "COPY":
            *sources, _ = step.rest.split()
            if shut_out := [source for source in sources if not admitted(source)]:
                raise FileNotFoundError(f"{shut_out}: not in the build's context")
            _copy(context, step, image)
        case "RUN":
            _run(step, image)
    return image


def _copy(origin: Path, step: Step, image: Image) -> None:
    *sources, target = step.rest.split()
    place = image.root / os.path.normpath(os.path.join(image.folder, target)).lstrip("/")
    for source in sources:
        file = origin / source.lstrip("/")
        if file.is_dir():
            skip = None if dict(step.options).get("from") else shutil.ignore_patterns("__pycache__")
            shutil.copytree(file, place, symlinks=True, dirs_exist_ok=True, ignore=skip)
        else:
            shutil.copy2(file, place)


def admitted(source: str, ignore: Path = FOLDER / "Dockerfile.dockerignore") -> bool:
    """Say whether the ignore file lets a path of the context into the build; the last rule wins."""
    into = True
    for line in ignore.read_text().splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#"):
            pattern = rule.lstrip("!")
            parts = [Path(source), *Path(source).parents[:-1]]
            # Two stars stand for any folder, a name without them for one at the top.
            names = [part.name if pattern.startswith("**/") else str(part) for part in parts]
            if any(fnmatch(name, pattern.removeprefix("**/")) for name in names):
                into = rule.startswith("!")
    return into


def _run(step: Step, image: Image) -> None:
    """Do a step as root without any network; put the packages of this test for the lock's."""
    if "--requirement" in step.rest:
        assert (image.root / "src" / "requirements.lock").is_file()
        _install_packages(image)
        return
    command = enter(image, ["/bin/sh", "-ec", step.rest], network=None)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=STEP_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"RUN {step.rest}: {done.returncode}\n{done.stdout}{done.stderr}")


def _install_packages(image: Image) -> None:
    (site,) = (image.root / "opt/fedprune/lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(f"{PACKAGES}\n")
    # The commands that `up` looks for beside its Python.
    for point in distribution("flwr").entry_points.select(group="console_scripts"):
        script = image.root / "opt/fedprune/bin" / point.name
        script.write_text(
            "#!/opt/fedprune/bin/python\n"
            f"import sys\nfrom {point.module} import {point.attr}\nsys.exit({point.attr}())\n"
        )
        script.chmod(0o755)


def _lay_base(root: Path) -> None:
    """Make the folders of a root, and what of ``/etc`` a step may change."""
    for name in ("usr", "etc", "proc", "dev/shm", "run", "tmp", "var/lib", "root", "opt", "src"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in LINKS:
        if (there := Path("/", name)).is_symlink():
            (root / name).symlink_to(there.readlink())
    for name in ETC:
        if (there := Path("/etc", name)).is_file():
            shutil.copy2(there, root / "etc" / name)
    for name in DEVICES:
        (root / "dev" / name).touch()


def base_mounts() -> list[Mount]:
    """Return this machine's part in a root: ``/usr``, Python, and the packages of the lock."""
    whole = [Path("/", name) for name in LINKS]
    return [
        Mount("/usr", Path("/usr")),
        *(Mount(str(path), path) for path in whole if path.is_dir() and not path.is_symlink()),
        *_python_mounts(Path(sys.base_prefix)),
        Mount(PACKAGES, Path(sysconfig.get_path("purelib"))),
        Mount("/proc", Path("/proc"), "rbind"),
        Mount("/dev/shm", None, "size=64m,mode=1777,noexec"),
        *(Mount(f"/dev/{name}", Path("/dev", name), "rw") for name in DEVICES),
    ]


def _python_mounts(prefix: Path) -> list[Mount]:
    """Put Python where the base image has it; its libraries are looked for at its own place too."""
    match str(prefix):
        case "/usr":
            return [Mount("/usr/local", None, "mode=755")]
        case "/usr/local":
            return []
    return [Mount("/usr/local", prefix), Mount(str(prefix), prefix)]


def container_mounts(compose: Compose, service: Service, folder: Path) -> list[Mount]:
    """Return a service's volumes, secrets and tmpfs; sources are relative to ``folder``."""
    return [
        *(
            Mount(target, folder / source, "rw" if writable else "ro")
            for source, target, writable in service.volumes
        ),
        *(
            Mount(f"/run/secrets/{target}", folder / compose.secret(source))
            for source, target in service.secrets
        ),
        *(Mount(target, None, options) for target, options in service.tmpfs),
    ]


def enter(
    image: Image,
    command: Sequence[str],
    *,
    network: str | None = None,
    mounts: Sequence[Mount] = (),
    environment: Mapping[str, str] | None = None,
    hardened: bool = False,
) -> list[str]:
    """Return a command that becomes ``command`` in the root of an image, by exec alone.

    ``network`` is a named network namespace; without one there is an empty one. ``hardened`` is
    what the compose file asks for: the image's user, a root that nobody can write, no capability,
    and no way to any.
    """
    root = image.root
    lines = ["set -e", f"mount --bind {root} {root}"]
    for mount in (*base_mounts(), *mounts):
        lines += _mounted(root, mount)
    uid, _, gid = image.user.partition(":")
    given = {**image.environment, **(environment or {})}
    become = ["env", "-i", *(f"{name}={value}" for name, value in given.items())]
    if hardened:
        lines.append(f"mount -o remount,bind,ro {root}")
        ids = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
        become = [
            *("setpriv", *ids, "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"),
            *("--no-new-privs", *become),
        ]
    inner = 'cd "$0" && exec "$@"'
    lines.append(f'exec chroot {root} {shlex.join(become)} /bin/sh -c {shlex.quote(inner)} "$@"')
    reach = ["nsenter", f"--net=/run/netns/{network}"] if network else []
    alone = [] if network else ["--net"]
    return [
        *reach,
        *("unshare", "--mount", *alone, "--propagation", "private"),
        *("sh", "-c", "\n".join(lines), "sh", image.folder, *command),
    ]


def _mounted(root: Path, mount: Mount) -> list[str]:
    place = shlex.quote(f"{root}{mount.target}")
    if mount.source is None:
        made = [f"mkdir -p {place}", f"mount -t tmpfs -o {mount.options} tmpfs {place}"]
        if mount.target == "/usr/local":
            made += [f"mkdir {place}/bin", f"ln -s /usr/bin/python3 {place}/bin/python"]
        return made
    source = shlex.quote(str(mount.source))
    if mount.options == "rbind":
        return [f"mount --rbind {source} {place}"]
    if mount.source.is_dir():
        made = [f"mkdir -p {place}"]
    else:
        made = [f"mkdir -p $(dirname {place})", f"[ -e {place} ] || : > {place}"]
    return [*made, f"mount -o bind,{mount.options} {source} {place}"]
