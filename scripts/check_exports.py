"""Export trainings of every kind and have each other framework accept them: its parser, its schema, its reading of the rows.

    python scripts/check_exports.py FOLDER [FRAMEWORK …] [--json FILE]

FOLDER: as `peer_environments.py` made it. Axolotl: its schema with the capabilities of an A100, then its own reading of the rows by
the dataset types that are named. LLaMA-Factory: its argument parser, its reading of the rows, and a few steps on a tiny model.
SkyPilot: `sky.Task.from_yaml`. Unsloth: the calls of the script against its source. TRL, which is among this project's own
development packages: the script is run. Exit code 1 where one of them refuses.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export_samples import samples
from lastresort.errors import InputError
from lastresort.interop.exporting import TARGETS
from lastresort.interop.exporting.export import ExportedFolder, export
from lastresort.interop.exporting.trained import training_from_file

PEERS = Path(__file__).resolve().parent / "peers"
FILES = {
    "axolotl": "axolotl.yaml",
    "llamafactory": "llamafactory.yaml",
    "skypilot": "task.yaml",
    "unsloth": "train.py",
    "trl": "train.py",
}
NEEDS_CUDA = {"trl": ("sft-qlora",)}  # accepted by those that only read it
LIMIT_S = 1200


@dataclass(frozen=True, slots=True)
class Answer:
    """verdict: accepted, refused, or no counterpart, where lastresort itself says so. seen: what the other side did or said."""

    framework: str
    sample: str
    verdict: str
    seen: str


def main() -> int:
    parser = argparse.ArgumentParser(description="Have the other frameworks accept what is exported.")
    parser.add_argument("environments", type=Path)
    parser.add_argument("frameworks", nargs="*", default=list(TARGETS))
    parser.add_argument("--json", type=Path, help="write the answers to this file")
    asked = parser.parse_args()
    answers: list[Answer] = []
    with tempfile.TemporaryDirectory() as folder:
        written = dict(samples(Path(folder)))
        for framework in asked.frameworks:
            own = answers_of(framework, asked.environments.absolute(), written)
            answers += own
            said = {
                verdict: sum(one.verdict == verdict for one in own)
                for verdict in ("accepted", "refused", "no counterpart")
            }
            print(f"{framework}: " + ", ".join(f"{count} {verdict}" for verdict, count in said.items()), flush=True)
            for one in own:
                print(f"  {one.sample}: {one.verdict}: {one.seen}", flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(one) for one in answers], indent=1) + "\n", encoding="utf-8")
    return 1 if any(one.verdict == "refused" for one in answers) else 0


def answers_of(framework: str, environments: Path, written: dict[str, Path]) -> list[Answer]:
    """What the framework says of every sample that it has a counterpart of."""
    answers, exports = [], {}
    for name, path in written.items():
        if name in NEEDS_CUDA.get(framework, ()):
            continue
        details: dict[str, Any] = {"gpu": "l4"} if framework == "skypilot" else {}
        try:
            found = export(training_from_file(path), framework, path.parent / f"export-{framework}", **details)
        except InputError as error:
            answers.append(Answer(framework, name, "no counterpart", str(error)))
            continue
        exports[name] = found
    if framework == "trl":
        return [*answers, *(run_script(name, found) for name, found in exports.items())]
    files = {str(found.folder / FILES[framework]): name for name, found in exports.items()}
    told = asked_there(framework, environments, list(files))
    return [
        *answers,
        *(Answer(framework, files[file], "accepted" if ok else "refused", seen) for file, ok, seen in told),
    ]


def asked_there(framework: str, environments: Path, files: Sequence[str]) -> list[tuple[str, bool, str]]:
    """Run the framework's own python on the files."""
    script, place = PEERS / f"{framework}_accepts.py", environments / framework
    if framework == "unsloth":
        [site] = (place / "lib").glob("python*/site-packages")
        command = [sys.executable, str(script), str(site), *files]
    else:
        command = [str(place / "bin" / "python"), str(script), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    lines = [
        json.loads(line.removeprefix("ANSWER ")) for line in done.stdout.splitlines() if line.startswith("ANSWER ")
    ]
    known = {line["file"]: line for line in lines}
    missing = {"ok": False, "seen": f"it said nothing: {done.stderr[-600:]}"}
    return [(file, known.get(file, missing)["ok"], known.get(file, missing)["seen"]) for file in files]


def run_script(name: str, found: ExportedFolder) -> Answer:
    """A few steps on the tiny model, by this python."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(
        [sys.executable, str(found.folder / "train.py")],
        capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False,
    )  # fmt: skip
    states = sorted((found.folder / "out").glob("checkpoint-*/trainer_state.json"))
    if done.returncode or not states:
        return Answer(
            "trl", name, "refused", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no checkpoint"
        )
    state = json.loads(states[-1].read_text(encoding="utf-8"))
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    return Answer("trl", name, "accepted", f"{state['global_step']} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    sys.exit(main())
