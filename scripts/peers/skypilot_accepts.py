"""Run by SkyPilot's own python: does it accept these tasks? One line of JSON a file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    import sky

    for name in sys.argv[1:]:
        path = Path(name).resolve()
        os.chdir(path.parent)
        try:
            task = sky.Task.from_yaml(str(path))
            asked = sorted(str(one.accelerators) for one in task.resources)
            seen = f"{task.name}: {', '.join(asked)}; mounts {task.file_mounts}; workdir {task.workdir}"
            found = {"file": name, "ok": True, "seen": seen}
        except Exception as error:  # noqa: BLE001  whatever it says is the answer
            found = {"file": name, "ok": False, "seen": f"{type(error).__name__}: {error}"[:1500]}
        print("ANSWER " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
