"""The rungs of the ladder. The table holds `module:name` strings, so that listing rungs imports nothing heavy."""

RUNGS: dict[str, str] = {
    "prompting": "lastresort.rungs.prompting:Prompting",
    "sft": "lastresort.rungs.sft:Sft",
}
