"""A training written for another framework. Values are `module:function`, called with a `Job`, which returns what it writes."""

TARGETS: dict[str, str] = {
    "axolotl": "lastresort.interop.axolotl.written:written",
    "llamafactory": "lastresort.interop.llamafactory.written:written",
    "trl": "lastresort.interop.trl.written:written",
    "unsloth": "lastresort.interop.unsloth:written",
    "skypilot": "lastresort.interop.skypilot:written",
}
