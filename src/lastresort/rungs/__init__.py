"""The rungs of the ladder. The table holds `module:name` strings, so that listing rungs imports nothing heavy."""

RUNGS: dict[str, str] = {
    "prompting": "lastresort.rungs.prompting:Prompting",
    "retrieval": "lastresort.rungs.retrieval.rung:Retrieval",
    "sft": "lastresort.rungs.supervised.sft:Sft",
    "preference": "lastresort.rungs.preference.rung:Preference",
    "full": "lastresort.rungs.supervised.full:Full",
}

TRAINED = ("sft", "preference", "full")  # whose systems hold weights of their own
