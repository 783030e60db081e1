"""Write envs/lock.txt and the conda environment files from envs/pins.toml.

`make lock` installs the direct pins into an empty environment and runs this file there: what pip
chose for the packages that they need, directly or not, becomes the lock. A local version ("+cpu")
is left out, so that the lock fits the build of torch that pip is set up to take.
"""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).parent
CONDA_ENVIRONMENTS = ("imaging", "torch", "elastix", "report")
CONDA_PYTHON = "3.11"
WRITTEN_BY = "# Written by `make lock` from envs/pins.toml: change that file, not this one.\n"


def direct_pins() -> dict[str, list[str]]:
    """The "name==version" pins of envs/pins.toml for each kind of work."""
    return tomllib.loads((HERE / "pins.toml").read_text(encoding="utf-8"))


def closure(pins: Iterable[str]) -> list[str]:
    """Exact pins of the given packages and of all that they need, as installed here, sorted.

    Raises:
        ValueError: A package is installed here in a version that does not fit.
    """
    # The mode that prints the direct pins runs before this package is installed.
    from packaging.requirements import Requirement  # noqa: PLC0415
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(pin) for pin in pins]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        installed = distribution(name)
        version = installed.version.partition("+")[0]
        if not requirement.specifier.contains(version):
            raise ValueError(f"{name} {version} is installed, but {requirement} is needed")
        versions[name] = version
        for extra in {"", *requirement.extras} - {had for of, had in seen if of == name}:
            seen.add((name, extra))
            waiting += [
                needed
                for needed in map(Requirement, installed.requires or ())
                if needed.marker is None or needed.marker.evaluate({"extra": extra})
            ]
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def conda_environment(pins: Iterable[str]) -> str:
    """Text of a conda environment file that holds exactly the given pins."""
    lines = ["channels:", "  - conda-forge", "dependencies:", f"  - python={CONDA_PYTHON}"]
    lines += ["  - pip", "  - pip:", *(f"      - {pin}" for pin in pins)]
    return WRITTEN_BY + "\n".join(lines) + "\n"


def generated_files() -> dict[str, str]:
    """Name and text of each file that the pins and the packages installed here give."""
    pins = direct_pins()
    everything = [pin for group in pins.values() for pin in group]
    files = {"lock.txt": WRITTEN_BY + "\n".join(closure(everything)) + "\n"}
    for name in CONDA_ENVIRONMENTS:
        files[f"{name}.yaml"] = conda_environment(closure(pins["imaging"] + pins[name]))
    return files


def main() -> None:
    """Write the files, or print the direct pins when asked with --direct."""
    if "--direct" in sys.argv[1:]:
        sys.stdout.write("\n".join(pin for group in direct_pins().values() for pin in group) + "\n")
        return
    for name, text in generated_files().items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
