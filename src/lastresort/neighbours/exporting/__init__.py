"""A training written for another framework. Values are `module:function`, called with a `Job`, which returns what it writes."""

TARGETS: dict[str, str] = {
    "axolotl": "lastresort.neighbours.axolotl.written:written",
    "llamafactory": "lastresort.neighbours.llamafactory.written:written",
    "trl": "lastresort.neighbours.trl.written:written",
    "unsloth": "lastresort.neighbours.unsloth.written:written",
    "skypilot": "lastresort.neighbours.skypilot.written:written",
}
