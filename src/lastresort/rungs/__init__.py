"""The rungs of the ladder. The table holds `module:name` strings, so that listing rungs imports nothing heavy."""

RUNGS: dict[str, str] = {
    "prompting": "lastresort.rungs.prompting:Prompting",
    "retrieval": "lastresort.rungs.retrieval:Retrieval",
    "sft": "lastresort.rungs.sft:Sft",
    "preference": "lastresort.rungs.preference:Preference",
    "full": "lastresort.rungs.full:Full",
}

TRAINED = ("sft", "preference", "full")  # whose systems hold weights of their own
