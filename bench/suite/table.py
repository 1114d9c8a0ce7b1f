"""The results of bench/suite/suite as tables: medians, spread, ratios to the bare machine and to Xen."""
import statistics

# A row of Croft's is compared to the same of Xen's
PEERS = {"croft-dom0": "xen-dom0", "croft-pv": "xen-pv"}


def figures(results, clock):
    """{row: {environment: (median, spread)}}, rows in the order of measuring; spread: of all runs, relative to the median."""
    values = {}
    for run in results["runs"]:
        if run["clock"] == clock:
            for row, value in run["rows"].items():
                if value is not None:
                    values.setdefault(row, {}).setdefault(run["environment"], []).append(value)
    return {row: {e: (statistics.median(v), (max(v) - min(v)) / max(statistics.median(v), 1)) for e, v in of_row.items()}
            for row, of_row in values.items()}


def environments(results):
    return list(dict.fromkeys(run["environment"] for run in results["runs"]))


def ratio(of_row, one, other):
    if one not in of_row or other not in of_row or of_row[other][0] <= 0:
        return None
    return of_row[one][0] / of_row[other][0]


def duration(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= size:
            return f"{ns / size:.3g} {unit}" if ns / size < 100 else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns"


def cells(results, clock):
    """Lines of cells, the first one the headings: the row, bare's figure, each environment's ratio to bare, and to Xen's."""
    names = environments(results)
    others = [n for n in names if n != "bare"]
    pairs = [(a, b) for a, b in PEERS.items() if a in names and b in names]
    lines = [["row", "bare", *others, *(f"{a}/{b}" for a, b in pairs)]]
    for row, of_row in figures(results, clock).items():
        def shown(value):
            return "" if value is None else f"{value:.2f}"
        bare = duration(of_row["bare"][0]) if "bare" in of_row else ""
        if "bare" in names:
            line = [shown(ratio(of_row, n, "bare")) for n in others]
        else:
            line = [duration(of_row[n][0]) if n in of_row else "" for n in others]
        lines.append([row, bare, *line, *(shown(ratio(of_row, a, b)) for a, b in pairs)])
    return lines


CLOCK_TITLES = {"icount": "Instructions (2 ns each); ratios to the bare machine, and of Croft to Xen",
                "real": "Real seconds under TCG, medians; ratios to the bare machine, and of Croft to Xen"}


def text(results):
    out = []
    for clock, title in CLOCK_TITLES.items():
        lines = cells(results, clock)
        if len(lines) == 1:
            continue
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        out.append("\n" + title)
        out += ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) for line in lines]
        spreads = [s for of_row in figures(results, clock).values() for _, s in of_row.values()]
        if clock == "real" and any(spreads):
            out.append(f"Spread of a row's runs: median {statistics.median(spreads):.0%}, most {max(spreads):.0%} of its median")
    return "\n".join(out)
