"""What the libraries print about themselves does not reach the user's terminal."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

CODE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from models_support import save_tiny
from lastresort.models.loading import load_local
from lastresort.train.adapters.adapters import AdapterSettings, adapters_in_base_precision, attach_adapter, save_adapter

folder = save_tiny(Path(sys.argv[1]) / "tiny")
print("began", file=sys.stderr)
base = load_local(folder, precision="bfloat16").model
with adapters_in_base_precision(base):
    pass
tuned = attach_adapter(base, AdapterSettings(r=2, alpha=4), base_name="tiny")
save_adapter(tuned, Path(sys.argv[1]) / "adapter")
load_local(folder, adapter=Path(sys.argv[1]) / "adapter")
print("ended", file=sys.stderr)
"""


@pytest.mark.slow
def test_tuning_and_loading_are_quiet(tmp_path: Path) -> None:
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), str(tests)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert told[told.index("began") + 1 :] == ["ended"]


def test_only_that_warning_is_silenced() -> None:
    from lastresort.libraries import quiet_checkpointing

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with quiet_checkpointing():
            warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed", FutureWarning, stacklevel=1)
            warnings.warn("something else", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in told] == ["something else"]
