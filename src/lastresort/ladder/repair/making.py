"""A repair -> the system that it makes of the one that was gated."""

from __future__ import annotations

from dataclasses import replace

from lastresort.ladder.repair.stages import Repair
from lastresort.rungs.milder import Training, TrainsAnew
from lastresort.rungs.rung import Rung, Workbench, find_rung
from lastresort.rungs.scaled import scaled
from lastresort.systems.files import load_system
from lastresort.systems.system import System


class Making:
    """gated: the system that the gate rejected or held, of this rung."""

    def __init__(self, bench: Workbench, rung: str, gated: System) -> None:
        self._bench, self._gated = bench, gated
        self._rung: Rung | None = find_rung(rung)
        self._name = rung

    def training(self) -> Training | None:
        """What it came of, None where its rung cannot tell."""
        rung = self._rung
        return rung.training_of(self._bench, self._gated.name) if isinstance(rung, TrainsAnew) else None

    def made(self, repair: Repair) -> System | None:
        """Not kept yet. None where training diverges; raises CandidateError where this system cannot be repaired so."""
        if repair.kind == "scale":
            return scaled(self._bench, self._gated, repair.setting)
        if repair.kind == "fewer_epochs":
            return self._earlier(repair.setting)
        assert isinstance(self._rung, TrainsAnew)
        if repair.kind == "replay":
            return self._rung.train_anew(self._bench, self._gated, replay=repair.setting)
        return self._rung.train_anew(self._bench, self._gated, learning_rate=repair.setting)

    def _earlier(self, number: float) -> System:
        """The checkpoint, held to the form of the output where the gated system is."""
        training = self.training()
        assert training is not None
        system = load_system(self._bench.candidate_folder(self._name, dict(training.earlier)[int(number)]))
        grammar = self._gated.decoding.grammar
        if grammar is None or system.decoding.grammar is not None:
            return system
        return replace(system, name=f"{system.name}+constrained", decoding=replace(system.decoding, grammar=grammar))
