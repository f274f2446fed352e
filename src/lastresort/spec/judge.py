"""`{judge: …}`: the scorer that asks another model, with its keys.

In the file: the model alone, or a mapping. `against: reference` (the default) compares with the right answer, by `criteria`
where these are given; `rubric` grades without one, on `scale`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from lastresort.models.open import settled_name
from lastresort.models.protocol import is_endpoint
from lastresort.spec.model_name import check_model_name, is_paid
from lastresort.spec.paths import found_path, relative_name
from lastresort.spec.values import Number, Reading, below, refuse, refuse_unknown_keys
from lastresort.spec.wording import describe, listed
from lastresort.types import ReasoningEffort

Parameters = dict[str, Any]
SCALES = ("1-5", "yes-no")
KEYS = (
    "model",
    "against",
    "criteria",
    "rubric",
    "scale",
    "labelled",
    "max_new_tokens",
    "reasoning_effort",
    "prompt_price",
    "output_price",
)
EFFORTS: tuple[str, ...] = get_args(ReasoningEffort)
PRICES = ("prompt_price", "output_price")
_NUMBERS = {
    "max_new_tokens": Number(at_least=1, whole=True),
    "prompt_price": Number(at_least=0),
    "output_price": Number(at_least=0),
}


def read_judge(value: Any, reading: Reading) -> Parameters:
    """The keys as given; `labelled` and a model's path are absolute."""
    given = value if isinstance(value, dict) else {"model": value}
    refuse_unknown_keys(given, KEYS)
    with below(*(("model",) if isinstance(value, dict) else ())):
        parameters: Parameters = {"model": _model(given.get("model"), reading)}
    for name, inner in given.items():
        if name != "model":
            with below(name):
                parameters[name] = _value(name, inner, reading)
    _check_question(parameters)
    return parameters


def refuse_in_a_reward(parameters: Parameters) -> None:
    """Refuse what nothing would come of where the judge is a term of a reward."""
    if "labelled" in parameters:
        refuse(
            "found labelled of a judge that is a reward",
            expected="it under score alone, whose judge is compared with people",
            remedy="Remove it.",
            key=("judge", "labelled"),
        )


def without_price(parameters: Parameters) -> bool:
    """Whether the judge's calls cost what the file does not say."""
    known = set(PRICES) <= set(parameters)
    return is_paid(parameters["model"]) and not known


def written_judge(parameters: Parameters, reading: Reading) -> str | Parameters:
    """As the file writes it."""
    model = written_model(parameters["model"], reading.folder)
    if len(parameters) == 1:
        return model
    written = {**parameters, "model": model}
    if "labelled" in written:
        written["labelled"] = relative_name(Path(parameters["labelled"]), reading.folder)
    return written


def judge_json_schema() -> dict[str, Any]:
    """JSON schema of the judge as the file writes it."""
    text, price = {"type": "string", "minLength": 1}, {"type": "number", "minimum": 0}
    properties = {
        "model": {"type": "string"},
        "against": {"enum": ["reference"]},
        "criteria": text,
        "rubric": text,
        "scale": {"enum": list(SCALES), "default": SCALES[0]},
        "labelled": {"type": "string"},
        "max_new_tokens": {"type": "integer", "minimum": 1, "default": 32},
        "reasoning_effort": {"enum": list(EFFORTS)},
        "prompt_price": price,
        "output_price": price,
    }
    mapping = {"type": "object", "properties": properties, "required": ["model"], "additionalProperties": False}
    return {"anyOf": [{"type": "string"}, mapping]}


def _model(value: Any, reading: Reading) -> str:
    model = check_model_name(value, reading)
    if not isinstance(model, str) or not model.strip():
        remedy = "Write {judge: MODEL}, with a model as under `model`."
        refuse(f"found {describe(model)}", expected="the judge's model", remedy=remedy)
    return settled_name(model, reading.folder)


def _value(name: str, value: Any, reading: Reading) -> Any:
    if name in _NUMBERS:
        return _NUMBERS[name].check(value)
    if name == "labelled":
        return str(found_path(value, reading))
    allowed = {"against": ("reference",), "scale": SCALES, "reasoning_effort": EFFORTS}.get(name)
    if allowed is not None and value not in allowed:
        remedy = f"Write {allowed[0]}" + (
            ", or a rubric to have answers graded by themselves." if name == "against" else "."
        )
        refuse(f"found {describe(value)}", expected=listed(allowed, "or"), remedy=remedy)
    if not isinstance(value, str) or not value.strip():
        remedy = "Write a sentence that says what makes an answer good."
        refuse(f"found {describe(value)}", expected="text", remedy=remedy)
    return value.strip()


def _check_question(parameters: Parameters) -> None:
    """A judge compares or grades, not both; and only an endpoint can be told how long to think."""
    if "reasoning_effort" in parameters and not is_endpoint(parameters["model"]):
        refuse(
            "found a reasoning effort of a judge that runs here",
            expected="a judge behind an endpoint",
            remedy="Remove it.",
            key=("reasoning_effort",),
        )
    if "rubric" in parameters:
        for name, remedy in (
            ("against", "Remove one of them: with a rubric an answer is graded without the reference."),
            ("criteria", "Write all of it under rubric, or all of it under criteria to compare with the reference."),
        ):
            if name in parameters:
                refuse(f"found {name} beside rubric", expected="one of them", remedy=remedy, key=(name,))
    elif "scale" in parameters:
        refuse(
            "found a scale without a rubric",
            expected="what the grades are for",
            remedy="Add rubric: TEXT, or remove the scale.",
            key=("scale",),
        )


def written_model(name: str, folder: Path) -> str:
    """A judge's model as a file in `folder` names it."""
    kind, path = ("scripted:", name.removeprefix("scripted:")) if name.startswith("scripted:") else ("", name)
    return kind + relative_name(Path(path), folder) if Path(path).is_absolute() else name
