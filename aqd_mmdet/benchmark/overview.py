"""All cases at a glance: how many times as fast as the peers ours is."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = ('tab:orange', 'tab:brown', 'goldenrod', 'peru')


@dataclass(frozen=True)
class Overview:
    """Latencies of the engines that may use the same instructions.

    Attributes:
        title: Of the case, and of the instructions if they are held to some.
        ours: Of our engines, by their titles, in seconds.
        int8: Of the fastest int8 peer; None without one.
        float32: Of the fastest float peer; None without one.
    """

    title: str
    ours: dict[str, float]
    int8: float | None
    float32: float | None

    def ratios(self, peer: float | None) -> Iterator[tuple[str, float]]:
        """Yield how many times as fast as a peer each of ours is."""
        if peer is not None:
            for title, latency in self.ours.items():
                yield title, peer / latency


def behind(overviews: Sequence[Overview]) -> str:
    """Say where one of our engines is slower than a peer."""
    slower = [
        f'{title} on {each.title} ({ratio:.2f} times the fastest {kind})'
        for each in overviews
        for kind, peer in (('int8', each.int8), ('float32', each.float32))
        for title, ratio in each.ratios(peer)
        if ratio < 1
    ]
    if slower:
        return f'Slower than a peer: {"; ".join(slower)}.'
    if all(each.int8 is None and each.float32 is None for each in overviews):
        return 'There is no peer to compare with.'
    return (
        'By the medians of one caller, nothing of ours is slower here than '
        'the fastest peer.'
    )


def table(overviews: Sequence[Overview]) -> list[str]:
    """Return a table in Markdown: times as fast as the fastest peers."""
    titles = list(dict.fromkeys(t for each in overviews for t in each.ours))
    kinds = ('int8', 'float32')
    columns = [f'{t}, times {kind}' for kind in kinds for t in titles]
    lines = [f'| | {" | ".join(columns)} |', f'|---|{"---:|" * len(columns)}']
    for each in overviews:
        cells = []
        for peer in (each.int8, each.float32):
            ratios = dict(each.ratios(peer))
            cells += [
                f'{ratios[t]:.2f}' if t in ratios else '' for t in titles
            ]
        lines.append(f'| {each.title} | {" | ".join(cells)} |')
    return lines


def picture(overviews: Sequence[Overview]) -> bytes:
    """Return a PNG: times as fast as the fastest int8 peer, for each case."""
    from matplotlib.figure import Figure

    shown = [each for each in overviews if each.int8 and each.ours]
    groups = []
    for each in shown:
        assert each.int8 is not None
        bars = [
            (title, ratio, COLOURS[i % len(COLOURS)])
            for i, (title, ratio) in enumerate(each.ratios(each.int8))
        ]
        bars.append(('fastest int8', 1.0, 'tab:blue'))
        if each.float32 is not None:
            ratio = each.int8 / each.float32
            bars.append(('fastest float32', ratio, 'tab:gray'))
        groups.append((each.title, bars))
    height = sum(len(bars) + 1 for _, bars in groups)
    figure = Figure(figsize=(8, 0.21 * height + 0.8))
    axes: Any = figure.subplots()
    places, names, at = [], [], 0
    for title, bars in groups:
        axes.text(0, at, title, fontsize=8, va='center', weight='bold')
        for name, ratio, colour in bars:
            at += 1
            axes.barh(at, ratio, color=colour, height=0.8)
            axes.text(ratio, at, f' {ratio:.2f}', fontsize=7, va='center')
            places.append(at)
            names.append(name)
        at += 1
    axes.set_yticks(places, names, fontsize=7)
    axes.set_ylim(at - 0.3, -0.7)  # the first case at the top
    axes.axvline(1, color='black', linewidth=0.5)
    axes.tick_params(axis='x', labelsize=7)
    axes.set_xlabel('times as fast as the fastest int8 peer', fontsize=8)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=120)
    return content.getvalue()
