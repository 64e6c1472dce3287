"""How a proposed change of optimizer is shown in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ftreg.files import marked_yaml
from ftreg.report.terminal import hanging, rows_view


def conversion_view(record: Mapping[str, Any]) -> RenderableType:
    """Old value, proposal, range and source of each setting; the notes; the section to paste.

    Args:
        record: the output of `ftreg optim convert --json`.
    """
    sources = list(dict.fromkeys(record["sources"].values()))
    rows = [
        {
            "setting": key,
            record["from"]: _shown(record["current"][key]),
            record["to"]: _shown(record["proposed"][key]),
            "range": " to ".join(map(_shown, record["ranges"].get(key, []))),
            "source": f"[{sources.index(source) + 1}]",
        }
        for key, source in record["sources"].items()
    ]
    title = f"From {record['from']} to {record['to']}: where to start a search"
    dropped = [
        f"dropped: {key} {_shown(value)}, which {record['to']} does not have"
        for key, value in record["dropped"].items()
    ]
    return Group(
        rows_view(title, rows),
        "",
        hanging(*((Text(f"[{at}]"), Text(source)) for at, source in enumerate(sources, start=1))),
        hanging(*((Text("-"), Text(note)) for note in [*record["notes"], *dropped])),
        "",
        Text(marked_yaml.dump({"optimizer": record["proposed"]}).rstrip()),
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)
