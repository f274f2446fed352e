"""Rich's console, whose control characters are its own alone."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from lastresort.cli.terminal import escaped


class SafeConsole(Console):
    """Everything printed passes through `render`, tables and progress bars too; what rich itself adds comes later."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)
