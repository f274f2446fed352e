"""Several weighted rewards of an answer: functions of the user's in processes of their own, and scorers by name."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from lastresort.errors import DataError, InputError, TaskError
from lastresort.evals.scorers import AsksAModel, Scorer, build_scorer, scores_of
from lastresort.evals.user_code.process import LIMIT_KEYS, CallFault, CodeLimits, UserFunction, limits_in
from lastresort.train.settings import OnError
from lastresort.types import Example, Json, JsonObject

LIMITS = CodeLimits()
WrapScorer = Callable[[Scorer, Mapping[str, Json]], Scorer]


class RewardChoice(Protocol):
    """A reward as a file names it. name: of a scorer, or "python". parameters: of the scorer; for python {"file",
    "function"}, or {"function": "FILE:FUNCTION"}."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Json]: ...
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True, slots=True)
class RewardScores:
    """total: weights times values, summed. values: by the reward's name. faults: why a reward counts as 0, by name."""

    total: float
    values: Mapping[str, float]
    faults: Mapping[str, str]


class RewardFault(DataError):
    """One call gave no reward: it raised, hung, took too much memory, ended its process, or returned no finite number."""


class RewardFunction:
    """FILE:FUNCTION, called with prompt, completion, expected and the row's columns as keyword arguments; see
    `child.manner_of` for the ways in which a function may take them. Started by its first call."""

    def __init__(self, file: Path, function: str, limits: CodeLimits = LIMITS) -> None:
        self._function = UserFunction(file, function, "reward", limits)
        self.place = self._function.place

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that the function cannot do without. Raises TaskError where it cannot be loaded."""
        return tuple(self._function.manner["needs"])

    def values(self, rows: Sequence[JsonObject], *, to_first_fault: bool = False) -> list[float | RewardFault]:
        """The reward of each row's answer, or why there is none; a function of lists that fails gives none to all.

        rows: keyword arguments, of which values that JSON lacks travel as text. to_first_fault: after it nothing more is called,
        and the others' reward is that fault too: one that hangs would hang for each. Raises TaskError where it cannot be loaded.
        """
        if not rows:
            return []
        if self._function.manner["plural"]:
            return self._call(rows)
        outcomes: list[float | RewardFault] = []
        for row in rows:
            outcomes += self._call([row])
            if to_first_fault and isinstance(outcomes[-1], RewardFault):
                return [*outcomes, *[outcomes[-1]] * (len(rows) - len(outcomes))]
        return outcomes

    def close(self) -> None:
        self._function.close()

    def _call(self, rows: Sequence[JsonObject]) -> list[float | RewardFault]:
        values = self._function.call(rows)
        if isinstance(values, CallFault):
            return [self._fault(values)] * len(rows)
        return [self._checked(value) for value in values]

    def _checked(self, value: float | str) -> float | RewardFault:
        if isinstance(value, str) or not math.isfinite(value):
            return self._fault(CallFault(f"returned {value}"))
        return float(value)

    def _fault(self, fault: CallFault) -> RewardFault:
        raised = f" {fault.or_raise}," if fault.key else ""
        remedy = f"Correct the function,{raised} or count such answers as 0 with on_error: zero."
        return RewardFault(fault.text, where=self.place, expected="a finite number for each answer", remedy=remedy)


class Rewards:
    """The sum of the wanted rewards.

    columns: further keyword arguments of the functions, by example id. on_error: whether a function that gives no reward
    stops the run, or counts as 0 and is named. wrap: what takes the place of a scorer, given its parameters.
    Raises InputError for no reward, TaskError for one that cannot be built.
    """

    def __init__(
        self,
        wanted: Sequence[RewardChoice],
        columns: Mapping[str, Mapping[str, Json]],
        *,
        json_schema: JsonObject | None = None,
        choices: tuple[str, ...] | None = None,
        on_error: OnError = "stop",
        limits: CodeLimits = LIMITS,
        wrap: WrapScorer = lambda scorer, parameters: scorer,
    ) -> None:
        if not wanted:
            raise InputError(
                "no reward", where="reward", expected="at least one", remedy="Name a function or a scorer."
            )
        self._columns, self._on_error = columns, on_error
        identities = [[reward.name, _wherever(reward.parameters), reward.weight] for reward in wanted]
        self._identity = [identities, dict(columns), json_schema, choices]
        self._terms: list[tuple[str, float, RewardFunction | Scorer]] = []
        for reward in wanted:
            if reward.name == "python":
                file, function = _file_and_function(reward.parameters)
                self._add(function, reward.weight, RewardFunction(file, function, limits_in(reward.parameters, limits)))
            else:
                scorer = wrap(_scorer(reward, json_schema, choices), reward.parameters)
                self._add(reward.name, reward.weight, scorer)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self._terms)

    def check(self, examples: Sequence[Example], *, open_judges: bool = True, run_code: bool = True) -> None:
        """Load the functions and judges, and see that each example holds what they and the scorers need.

        open_judges: False where no model may be loaded. run_code: False where no Python of the user's may run, so that what its
        functions need is not known. Raises TaskError, DataError.
        """
        for name, _, source in self._terms:
            if open_judges and isinstance(source, AsksAModel):
                source.open()
            needs = source.needs if run_code and isinstance(source, RewardFunction) else ()
            for example in examples:
                if isinstance(source, RewardFunction):
                    missing = [key for key in needs if key not in self._columns.get(example.id, {})]
                    fault = f'no column "{missing[0]}"' if missing else ""
                elif isinstance(source, AsksAModel) and not source.needs_output:
                    fault = ""
                else:
                    fault = "" if example.output else "no expected answer"
                if fault:
                    remedy = "Add it to the row, or give the parameter a default." if "column" in fault else "Add it."
                    raise DataError(fault, where=example.place, expected=f"what the reward {name} needs", remedy=remedy)

    def score(self, examples: Sequence[Example], answers: Sequence[str]) -> list[RewardScores]:
        """The rewards of each answer to its example. Raises DataError where a function gives none and that is to stop the run."""
        columns = [self._values(source, examples, answers) for _, _, source in self._terms]
        scored = []
        for i, example in enumerate(examples):
            values, faults = {}, {}
            for (name, _, _), column in zip(self._terms, columns, strict=True):
                value = column[i]
                if isinstance(value, RewardFault):
                    faults[name] = value.found
                    value = self._instead(value, example)
                values[name] = value
            total = sum(weight * values[name] for name, weight, _ in self._terms)
            scored.append(RewardScores(total, values, faults))
        return scored

    def fingerprint(self) -> str:
        """Of what is rewarded, not of the functions' text: one that failed may be corrected while a run waits."""
        return hashlib.sha256(json.dumps(self._identity, sort_keys=True, default=str).encode()).hexdigest()

    def close(self) -> None:
        for _, _, source in self._terms:
            if isinstance(source, RewardFunction):
                source.close()

    def _add(self, name: str, weight: float, source: RewardFunction | Scorer) -> None:
        free = (f"{name}_{n}" if n > 1 else name for n in count(1))
        self._terms.append((next(label for label in free if label not in self.names), weight, source))

    def _values(
        self, source: RewardFunction | Scorer, examples: Sequence[Example], answers: Sequence[str]
    ) -> Sequence[float | RewardFault]:
        if isinstance(source, RewardFunction):
            pairs = zip(examples, answers, strict=True)
            arguments = [self._arguments(example, answer) for example, answer in pairs]
            return source.values(arguments, to_first_fault=self._on_error == "stop")
        return scores_of(source, answers, examples)

    def _arguments(self, example: Example, answer: str) -> JsonObject:
        columns = self._columns.get(example.id, {})
        return {"expected": example.output, **columns, "prompt": example.input_text, "completion": answer}

    def _instead(self, fault: RewardFault, example: Example) -> float:
        if self._on_error == "zero":
            return 0.0
        raise DataError(
            fault.found,
            where=f"{fault.where}, called for {example.place}",
            expected=fault.expected,
            remedy=fault.remedy,
        )


def _wherever(parameters: Mapping[str, Json]) -> JsonObject:
    """The parameters without the folder of a file, since a run that was moved is the same run, and without limits, which may be
    raised while it waits."""
    parameters_left = {key: value for key, value in parameters.items() if key not in LIMIT_KEYS}
    return {key: Path(str(value)).name if key == "file" else value for key, value in parameters_left.items()}


def _file_and_function(parameters: Mapping[str, Json]) -> tuple[Path, str]:
    file, function = parameters.get("file"), parameters.get("function", parameters.get("value"))
    if file is None and isinstance(function, str):
        file, _, function = function.rpartition(":")
    if not file or not function:
        raise TaskError(f"found {dict(parameters)}", where="reward.python", expected="FILE:FUNCTION")
    path = Path(str(file))
    if not path.is_file():
        raise TaskError(f"{path} is not there", where="reward.python", expected="a file", remedy="Correct the path.")
    return path, str(function)


def _scorer(reward: RewardChoice, json_schema: JsonObject | None, choices: tuple[str, ...] | None) -> Scorer:
    try:
        return build_scorer(reward.name, reward.parameters, json_schema=json_schema, choices=choices)
    except TaskError as error:
        raise TaskError(error.found, where="reward", expected=error.expected, remedy=error.remedy) from error
