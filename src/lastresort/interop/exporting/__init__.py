"""A training written for another framework: a new one is its own folder or file, and one row here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """title: what the framework calls itself. path: `module:function`, called with a `Job`, which returns what it writes.
    runs_us: what trains there is lastresort, which takes its own names and files.
    """

    title: str
    path: str
    runs_us: bool = False


TARGETS: dict[str, ExportTarget] = {
    "axolotl": ExportTarget("Axolotl", "lastresort.interop.axolotl.export:export_files"),
    "llamafactory": ExportTarget("LLaMA-Factory", "lastresort.interop.llamafactory.export:export_files"),
    "trl": ExportTarget("TRL", "lastresort.interop.trl.export:export_files"),
    "unsloth": ExportTarget("Unsloth", "lastresort.interop.unsloth:export_files"),
    "skypilot": ExportTarget("SkyPilot", "lastresort.interop.skypilot:export_files", runs_us=True),
}
