"""Published results of others on the same data sets, as data: `reports/references.csv`.

Their networks, splits and protocols are not ours: a row is a landmark, and whoever shows it says
what differs.
"""

import csv
from dataclasses import dataclass

from ns_bench.files import folder


@dataclass(frozen=True)
class Reference:
    """A published accuracy, in %.

    Attributes:
        data: name of the data set, as in `data.name`. labels: how many it was trained with.
        spread: ± of the source, None where it has none.
        network: "" where it was not looked up.
        differs: what has to be known before it is compared with anything.
    """

    data: str
    labels: int
    method: str
    accuracy: float
    spread: float | None
    network: str
    source: str
    differs: str


def references(data: str) -> list[Reference]:
    """Return what others published of a data set, by the number of labels."""
    with (folder("reports") / "references.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, strict=True) if row["data"] == data]
    return sorted(map(_reference, rows), key=lambda row: row.labels)


def _reference(row: dict[str, str]) -> Reference:
    value = float(row["value"])
    return Reference(
        row["data"],
        int(row["labels"]),
        row["method"],
        {"accuracy": value, "error": round(100 - value, 6)}[row["metric"]],
        float(row["spread"]) if row["spread"] else None,
        row["network"],
        row["source"],
        row["differs"],
    )
