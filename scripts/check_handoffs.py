"""Hand winners of every kind over and have the other server's own code accept them: its parser, its request, its checks.

    python scripts/check_handoffs.py FOLDER [SERVER …] [--json FILE]

FOLDER: as `peer_environments.py` made it. vLLM: its argument parser, its request and its check of an adapter. SGLang: its parser,
its request and its adapter's settings. LiteLLM: its command line, its reading of the configuration and its router. Exit code 1
where one of them refuses. llama.cpp and transformers serve are started and asked in `tests/slow/test_handoff_servers.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from check_exports import Answer, asked_there
from handoff_samples import samples
from lastresort.errors import InputError
from lastresort.handoff.source import open_winner
from lastresort.handoff.write import write_handoff

SERVERS = ("vllm", "sglang", "litellm")


def main() -> int:
    parser = argparse.ArgumentParser(description="Have other servers accept what is handed over.")
    parser.add_argument("environments", type=Path)
    parser.add_argument("servers", nargs="*", default=list(SERVERS))
    parser.add_argument("--json", type=Path, help="write the answers to this file")
    asked = parser.parse_args()
    answers: list[Answer] = []
    with tempfile.TemporaryDirectory() as folder:
        runs = dict(samples(Path(folder)))
        for server in asked.servers:
            own = answers_of(server, asked.environments.absolute(), runs)
            answers += own
            for one in own:
                print(f"{server}, {one.sample}: {one.verdict}: {one.seen}", flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(one) for one in answers], indent=1) + "\n", encoding="utf-8")
    return 1 if any(one.verdict == "refused" for one in answers) else 0


def answers_of(server: str, environments: Path, runs: dict[str, Path]) -> list[Answer]:
    answers, handed = [], {}
    for name, run in runs.items():
        try:
            found = write_handoff(open_winner(run), server, run / f"handoff-{server}", name="tickets")
        except InputError as error:
            answers.append(Answer(server, name, "no counterpart", str(error)))
        else:
            handed[str(found.folder)] = name
    told = asked_there(server, environments, list(handed))
    return [*answers, *(Answer(server, handed[file], "accepted" if ok else "refused", seen) for file, ok, seen in told)]


if __name__ == "__main__":
    sys.exit(main())
