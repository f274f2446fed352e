"""No hostile input ends in a traceback, in silence, or not at all."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from corpus import Case, Hanging, check, limited, own_folder

from lastresort.knowledge.formats import pdf

HERE = Path(__file__).parent
CORPUS: dict[str, Case] = {
    f"{path.stem.removeprefix('cases_')}: {name}": case
    for path in sorted(HERE.glob("cases_*.py"))
    for name, case in import_module(path.stem).CASES.items()
}


LONG = {
    "knowledge: front matter of 2 MB",
    "data: a dictionary of bytes of one length",
    "knowledge: headings of one title",
}


@pytest.mark.sampled_slow(3)
@pytest.mark.sampled(24)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CORPUS]
)
def test_it_ends_well_or_with_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pdf, "MOST_S", 3.0)  # several cases take all of it; a page takes a tenth
    with own_folder() as folder:
        check(CORPUS[name], folder, monkeypatch, capsys)
        monkeypatch.undo()


def test_the_corpus_does_not_shrink() -> None:
    assert len(CORPUS) >= 3000


def test_what_hangs_is_noticed() -> None:
    def hang() -> None:
        with limited(computing_s=0.05):
            while True:
                pass

    with pytest.raises(Hanging):
        hang()
