"""A training written for another framework: a new one is its own folder or file, and one row here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """title: what the framework calls itself. path: `module:function`, called with a `Job`, which returns what it writes.
    runs_us: what trains there is lastresort, which takes its own names and files.
    """

    title: str
    path: str
    runs_us: bool = False


TARGETS: dict[str, Target] = {
    "axolotl": Target("Axolotl", "lastresort.interop.axolotl.written:written"),
    "llamafactory": Target("LLaMA-Factory", "lastresort.interop.llamafactory.written:written"),
    "trl": Target("TRL", "lastresort.interop.trl.written:written"),
    "unsloth": Target("Unsloth", "lastresort.interop.unsloth:written"),
    "skypilot": Target("SkyPilot", "lastresort.interop.skypilot:written", runs_us=True),
}
