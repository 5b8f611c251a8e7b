"""What was measured: one row for each thing, one figure for each proxy."""

from collections.abc import Iterator
from dataclasses import dataclass, field

OURS = "ours"
NGINX = "nginx"
HAPROXY = "HAProxy"
ENVOY = "Envoy"
ORIGIN = "no proxy"
PEERS = [NGINX, HAPROXY, ENVOY]


@dataclass
class Results:
    """Figures in the order in which they came. A text is told and not compared."""

    figures: dict[str, dict[str, float | str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    # Rows of times that other programs of this machine had a part in: told, and not judged.
    disturbed: set[str] = field(default_factory=set)

    def add(self, row: str, proxy: str, figure: float | str) -> None:
        self.figures.setdefault(row, {})[proxy] = figure

    def number(self, row: str, proxy: str) -> float | None:
        """Nothing where it was not measured."""
        figure = self.figures.get(row, {}).get(proxy)
        return None if isinstance(figure, str) else figure

    def ratio(self, row: str, peer: str) -> float | None:
        """Ours to that of a peer in the same run."""
        ours, theirs = self.number(row, OURS), self.number(row, peer)
        return ours / theirs if ours is not None and theirs else None

    def lines(self) -> Iterator[str]:
        """The table, as Markdown."""
        columns = [OURS, *PEERS, ORIGIN]
        yield "| | " + " | ".join(columns) + " | " + " | ".join(f"ours / {peer}" for peer in PEERS) + " |"
        yield "|---|" + "---|" * (len(columns) + len(PEERS))
        for row, figures in self.figures.items():
            cells = [_shown(figures.get(column)) for column in columns]
            cells += [_shown(self.ratio(row, peer)) for peer in PEERS]
            yield f"| {row} | " + " | ".join(cells) + " |"


def _shown(figure: float | str | None) -> str:
    if figure is None:
        return "-"
    if isinstance(figure, str):
        return figure
    # Three digits, and none that was not measured.
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"
