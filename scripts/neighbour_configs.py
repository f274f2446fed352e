"""Read the example configurations in the released packages of Axolotl and LLaMA-Factory, and print which share runs unchanged.

    python scripts/neighbour_configs.py FOLDER [--json FILE]

The source releases are fetched with pip into FOLDER/sources and unpacked there; nothing of them is copied into this repository.
Every YAML file below a folder `examples` that is a training of theirs (by its keys) is read as `lastresort train` reads it.
A file "runs unchanged" if it is translated without an error and without a key that is not honoured; its model and its data are
other people's and not on this machine, so nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # whoever trains it loads its data from the hub; here nothing is fetched

from lastresort.errors import LastresortError
from lastresort.interop.reading import framework_of, read

RELEASES = {"axolotl": "axolotl==0.19.0", "llamafactory": "llamafactory==0.9.5"}
SHOWN = 12  # reasons of each kind


@dataclass(frozen=True, slots=True)
class Found:
    """One configuration. outcome: unchanged, remarks (keys not honoured), or refused. reasons: the keys, or the sentence."""

    framework: str
    file: str
    outcome: str
    reasons: tuple[str, ...]
    differs: tuple[str, ...]
    traps: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description="Read the example configurations of Axolotl and LLaMA-Factory.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write what was found to this file")
    asked = parser.parse_args()
    sources = asked.folder.absolute() / "sources"
    everything: list[Found] = []
    for framework, release in RELEASES.items():
        root = unpacked(framework, release, sources)
        found = [outcome(framework, root, path) for path in configurations(framework, root)]
        everything += found
        report(release, found)
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(one) for one in everything], indent=1) + "\n", encoding="utf-8")
    return 0


def unpacked(name: str, release: str, sources: Path) -> Path:
    """The folder of a source release. Raises CalledProcessError where pip cannot fetch it."""
    place = sources / name
    if not place.is_dir():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", str(sources), release], check=True)
        [archive] = sources.glob(f"{name}-*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(place, filter="data")
    [root] = place.iterdir()
    return root


def configurations(framework: str, root: Path) -> Iterator[Path]:
    """Trainings of this framework among the examples."""
    for path in sorted(root.rglob("*.y*ml")):
        if "examples" in path.relative_to(root).parts and framework_of(path) == framework:
            yield path


def outcome(framework: str, root: Path, path: Path) -> Found:
    """Read one, from the folder in which its own documentation starts it."""
    name = path.relative_to(root).as_posix()
    try:
        with started_in(root):
            imported = read(path)
    except LastresortError as error:
        key = re.search(r'key "([^"]+)"', error.where or "")
        place = f"{key[1]}: " if key else ""
        return Found(framework, name, "refused", (f"{place}{error.found}; expected {error.expected}",), (), ())
    by_kind = {
        kind: tuple(dict.fromkeys(one.key for one in imported.remarks if one.kind == kind))
        for kind in ("ignored", "differs", "trap")
    }
    ignored = by_kind["ignored"]
    return Found(framework, name, "remarks" if ignored else "unchanged", ignored, by_kind["differs"], by_kind["trap"])


@contextmanager
def started_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def report(release: str, found: list[Found]) -> None:
    counts = Counter(one.outcome for one in found)
    total = max(1, len(found))
    print(f"{release}: {len(found)} trainings among its examples")
    print(f"  run unchanged:               {counts['unchanged']:4} ({counts['unchanged'] / total:.0%})")
    print(f"  run, with keys not honoured: {counts['remarks']:4} ({counts['remarks'] / total:.0%})")
    print(f"  refused:                     {counts['refused']:4} ({counts['refused'] / total:.0%})")
    keys = Counter(
        key for one in found if one.outcome == "remarks" for named in one.reasons for key in named.split(", ")
    )
    print("  keys not honoured: " + ", ".join(f"{key} {count}" for key, count in keys.most_common(SHOWN)))
    print("  refused for:")
    for reason, count in Counter(kind_of(one.reasons[0]) for one in found if one.outcome == "refused").most_common(
        SHOWN
    ):
        print(f"    {count:4}  {reason}")


def kind_of(sentence: str) -> str:
    """A reason without what is particular to one file."""
    shorter = re.sub(r"the pattern .*?; expected", "a pattern; expected", sentence)
    return re.sub(r"\[\d+\]", "[…]", re.sub(r'"[^"]*"', '"…"', shorter))[:180]


if __name__ == "__main__":
    sys.exit(main())
