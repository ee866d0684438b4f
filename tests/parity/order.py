"""The order of the published tokens, redone: what mix, pack and publish decided, from the pages and not from the code.

mellama runs an invented corpus. From its plan and the indexes of its token runs this works out quotas, order, windows and
sequences by "The order, to redo it" of docs/formats.md, and compares them with the tables of mix and pack and with the shards,
row by row and id by id. Keys and lengths it takes from the indexes; it reaches no window that closes by its tokens.

    order.py MELLAMA TOKENIZER     for example target/debug/mellama tests/fixtures/tokenizer/tokenizer.json
"""

import json
import math
import random
import struct
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict, namedtuple
from fractions import Fraction
from itertools import pairwise, zip_longest
from pathlib import Path

try:
    import blake3
    import pyarrow.parquet
except ImportError as missing:
    print(f"not run: order: there is no Python package {missing.name}")
    sys.exit(0)

DOMAINS = ["biomedical", "clinical", "general"]
SEED, CASES = 2**60 + 7, [("best-fit", "tokens"), ("concatenate", "tokens"), ("best-fit", "sequences")]
WINDOW_DOCUMENTS, WINDOW_TOKENS, TABLE_SEQUENCES = 65_536, 16_777_216, 8192
# Name, domain, max_epochs, objects, documents of an object, fewest and most words. The two of the clinical domain are alike.
SOURCES = [
    ("papers", "biomedical", 1, 2, 20, 20, 400),
    ("abstracts", "biomedical", 9, 2, 30, 10, 70),
    ("letters", "biomedical", 2, 1, 40, 2, 60),
    ("leaflet", "clinical", 1, 1, 1, 12_000, 12_000),
    ("bulletin", "clinical", 1, 1, 1, 12_000, 12_000),
    ("lines", "general", 4, 4100, 5, 1, 3),
    ("web", "general", 4, 1, 60, 10, 200),
]
TWINS_FROM = 4094  # objects that begin with the same document; a task takes 4,096 objects, so they are in two
# One token of the total is over and two domains have the same claim to it; so it is with the two clinical sources.
MIXTURE = "[corpus.mixture]\ntokens = 800_002\nbiomedical = 1\nclinical = 1\ngeneral = 9"
PACK = "[corpus.pack]\nsequence_length = 64\nheldout = 0.05\nshard_sequences = 1500"
WORDS = [one + other for one in "ba ce di fo gu ha je ki lo mu".split() for other in "na pe ri so tu va we xi yo zu".split()]
# A comparison that cannot fail is none: the corpus has to bring each of these about.
REACHED = {"third passes", "cut by quotas", "copies of one key", "equal places of two sources", "pieces that go on",
           "best-fit: further tables", "concatenate: further tables", "further shards", "sequences left out"}
Run = namedtuple("Run", "object row source tokens start check key heldout id")  # of a token run; object: number of the task
Placed = namedtuple("Placed", "object row source epoch take tokens start check key")  # a row of mix/
Piece = namedtuple("Piece", "object row source epoch offset length tokens start check key")  # of packed/, without the sequence


def main():
    mellama, tokenizer = (Path(argument).resolve() for argument in sys.argv[1:3])
    tally = Counter()
    with tempfile.TemporaryDirectory(prefix="mellama-parity-") as folder:
        for recipe in invent(Path(folder), tokenizer):
            work = recipe.with_suffix("")
            call = [mellama, "run", recipe, "--workdir", work, "--until", "publish", "--quiet"]
            ended = subprocess.run(call, capture_output=True, text=True, check=False)
            same(f"{work.name}: exit code of mellama run ({ended.stderr[-2000:]})", ended.returncode, 0)
            compare(work, tally)
    same("what the invented corpus does not bring about", {name for name in REACHED if not tally[name]}, set())
    for name, count in sorted(tally.items()):
        print(f"{count:9}  {name}")
    return 0


def same(place, got, expected):
    if got != expected:
        sys.exit(f"{place}: got {got}, expected {expected}")


def same_rows(place, got, expected):
    """How many rows they are."""
    for number, (one, other) in enumerate(zip_longest(got, expected)):
        same(f"{place} {number}", one, other)
    return len(expected)


def invent(folder, tokenizer):
    """Writes the texts, and gives a recipe for each case."""
    parts = [f'name = "order"\nseed = {SEED}\nworkdir = "out"\n[corpus.tokenizer]\npath = {json.dumps(str(tokenizer))}']
    for name, domain, epochs, objects, documents, fewest, most in SOURCES:
        parts.append(f'[[corpus.source]]\nname = "{name}"\ninputs = ["{name}"]\nformat = "jsonl"')
        parts.append(f'domain = "{domain}"\nmax_epochs = {epochs}')
        dice = random.Random(7)
        (folder / name).mkdir()
        for number in range(objects):
            texts = {f"{number}/{row}": dice.choices(WORDS, k=dice.randint(fewest, most)) for row in range(documents)}
            twins = {"twin": ["bana"]} if number >= TWINS_FROM else {}
            records = [{"id": name, "text": " ".join(words)} for name, words in (twins | texts).items()]
            (folder / name / f"{number:05}.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    for method, unit in CASES:
        recipe, ending = folder / f"{method}-{unit}.toml", [f'{MIXTURE}\nunit = "{unit}"', f'{PACK}\nmethod = "{method}"']
        recipe.write_text("\n".join([*parts, *ending]), encoding="utf-8")
        yield recipe


def compare(work, tally):
    plan = json.loads((work / "plan.json").read_text())["plan"]["recipe"]
    facts = json.loads((work / "manifests/mix.json").read_text())["facts"]
    runs = read_runs(work, [source["name"] for source in plan["corpus"]["source"]])
    drawn, limit = keyed_hash(plan["seed"], "heldout"), int(plan["corpus"]["pack"]["heldout"] * 2**64)
    flags = [drawn(0, run.id.encode()) < limit for run in runs]
    tally["held-out flags"] += same_rows(f"{work.name}: held-out flag of document", [run.heldout for run in runs], flags)
    quotas, shares = quotas_of(plan["corpus"], runs)
    same(f"{work.name}: quotas", facts["quotas"] | {share["source"]: share["quota"] for share in facts["sources"]}, quotas | shares)
    tally["quotas"] += len(quotas) + len(shares)
    streams = streams_of(plan, runs, list(shares.values()), tally)
    same(f"{work.name}: streams", [stream["name"] for stream in facts["streams"]], list(streams))
    for name, (placed, tables) in streams.items():
        got = rows(work, f"mix/{name}-*.parquet", Placed._fields)
        tally["rows of the order"] += same_rows(f"{work.name}: mix/{name} row", got, [(0, *row) for row in placed])
        got = rows(work, f"packed/{name}/*.parquet", ("sequence", *Piece._fields))
        expected = [(table, at, *one) for table, made in enumerate(tables) for at, pieces in enumerate(made) for one in pieces]
        tally["rows of packed windows"] += same_rows(f"{work.name}: packed/{name} row (table first)", got, expected)
        tally[f"{plan['corpus']['pack']['method']}: further tables"] += len(tables) - 1
    for part in ("train", "heldout"):
        compare_shards(work, part, plan["corpus"], [stream for name, stream in streams.items() if name.startswith(part)], tally)


def read_runs(work, names):
    paths = {int(path.name[:5]): path for path in work.glob("tokens/*/*-index-*.parquet")}
    indexes = ((task, pyarrow.parquet.read_table(path).to_pylist()) for task, path in sorted(paths.items()))
    numbered = ((task, row, run) for task, index in indexes for row, run in enumerate(index))
    of_run = ("length", "offset", "check", "key", "heldout", "id")
    return [Run(task, row, names.index(run["source"]), *(run[name] for name in of_run)) for task, row, run in numbered]


def rows(work, pattern, fields):
    """Rows of some tables, each with the number of its table."""
    for number, path in enumerate(sorted(work.glob(pattern))):
        table = pyarrow.parquet.read_table(path)
        same(f"{path}: columns", table.column_names, list(fields))
        yield from zip([number] * len(table), *(column.to_pylist() for column in table.columns), strict=True)


def keyed_hash(seed, purpose):
    key = blake3.blake3(b"mellama-prf-1\0" + struct.pack("<Q", seed) + purpose.encode()).digest()
    return lambda epoch, name: struct.unpack("<Q", blake3.blake3(struct.pack("<Q", epoch) + name, key=key).digest(8))[0]


def quotas_of(corpus, runs):
    mixture, sources = corpus["mixture"], {source["name"]: source for source in corpus["source"]}
    unit = corpus["pack"]["sequence_length"] if mixture["unit"] == "sequences" else 1
    units = by_largest_remainder(mixture["tokens"] // unit, {domain: mixture[domain] for domain in DOMAINS})
    quotas, shares = {domain: part * unit for domain, part in units.items()}, {}
    supply = {name: sum(run.tokens for run in runs if run.source == one and not run.heldout) for one, name in enumerate(sources)}
    caps = {name: tokens * sources[name]["max_epochs"] for name, tokens in supply.items()}
    for domain, quota in quotas.items():
        of_domain = sorted(name for name, source in sources.items() if source["domain"] == domain)
        shares |= under_caps(quota, {name: supply[name] for name in of_domain}, caps)
    return quotas, {name: shares[name] for name in sources}


def by_largest_remainder(total, weights):
    whole = sum(weights.values())
    parts = {name: total * weight // whole for name, weight in weights.items()}
    first = sorted(weights, key=lambda name: -(total * weights[name] % whole))  # stable: of equal ones the earlier
    return {name: part + (name in first[: total - sum(parts.values())]) for name, part in parts.items()}


def under_caps(quota, supply, caps):
    """In proportion to the supply; a source that would reach its cap gives that, and the others share what is left."""
    shares, left = {}, quota
    while full := {name for name in supply if left * supply[name] // sum(supply.values()) >= caps[name]}:
        shares |= {name: caps[name] for name in full}
        supply = {name: tokens for name, tokens in supply.items() if name not in full}
        left = quota - sum(shares.values())
    return shares | by_largest_remainder(left, supply)


def streams_of(plan, runs, shares, tally):
    """Order and tables of sequences of every stream, as streams are counted."""
    corpus, streams = plan["corpus"], {}
    length, shuffle = corpus["pack"]["sequence_length"], keyed_hash(plan["seed"], "pack")
    for heldout, domain in ((heldout, domain) for heldout in (False, True) for domain in DOMAINS):
        of_domain = [number for number, source in enumerate(corpus["source"]) if source["domain"] == domain]
        of_source = {one: [run for run in runs if (run.source, run.heldout) == (one, heldout)] for one in of_domain}
        quotas = {source: sum(run.tokens for run in of_source[source]) if heldout else shares[source] for source in of_source}
        placed = order_of(of_source, quotas, keyed_hash(plan["seed"], "order"), tally)
        if corpus["pack"]["method"] == "concatenate":
            laid = end_to_end(placed, length)
            tables = [laid[first : first + TABLE_SEQUENCES] for first in range(0, len(laid), TABLE_SEQUENCES)]
        else:
            numbered = enumerate(windows(placed), len(streams) << 40)
            tables = [best_fit(window, length, lambda index, n=number: shuffle(n, index)) for number, window in numbered]
        if placed:
            streams[f"{'heldout' if heldout else 'train'}-{domain}"] = (placed, tables)
    return streams


def order_of(of_source, quotas, drawn, tally):
    """Each source pass after pass, cut at its quota; the sources merged by the middles of their documents."""
    merged, common = [], math.lcm(*filter(None, quotas.values()))
    for source, runs in of_source.items():
        tally["copies of one key"] += len(runs) - len({run.key for run in runs})
        done = epoch = 0
        while done < quotas[source]:
            for _, _, run in sorted((drawn(epoch, run.key), int.from_bytes(run.key, "little"), run) for run in runs):
                if take := min(run.tokens, quotas[source] - done):
                    place = (2 * done + take) * (common // quotas[source])
                    merged.append((place, source, Placed(*run[:3], epoch, take, *run[3:7])))
                    tally["cut by quotas"] += take < run.tokens
                    done += take
            tally["third passes"] += epoch == 2
            epoch += 1
    merged.sort(key=lambda one: one[:2])
    tally["equal places of two sources"] += sum(one[0] == other[0] for one, other in pairwise(merged))
    return [row for _, _, row in merged]


def windows(placed):
    found, tokens = [], 0
    for row in placed:
        tokens += row.take
        if not found or len(found[-1]) == WINDOW_DOCUMENTS or tokens > WINDOW_TOKENS:
            found, tokens = [*found, []], row.take
        found[-1].append(row)
    return found


def best_fit(window, length, drawn):
    """Full sequences first, as their documents come; then tails and short documents, the longest first; then shuffled."""
    sequences = [[Piece(*row[:4], at, length, *row[5:])] for row in window for at in range(0, row.take - length + 1, length)]
    tails = [Piece(*row[:4], row.take - tail, tail, *row[5:]) for row in window if (tail := row.take % length)]
    rooms = defaultdict(list)
    for tail in sorted(tails, key=lambda tail: -tail.length):  # stable: of equal ones the earlier in the order
        room = min((room for room, numbers in rooms.items() if numbers and room >= tail.length), default=length)
        if not rooms[room]:
            rooms[room].append(len(sequences))
            sequences.append([])
        number = rooms[room].pop()
        sequences[number].append(tail)
        rooms[room - tail.length].append(number)
    return [sequences[one] for one in sorted(range(len(sequences)), key=lambda index: drawn(struct.pack("<Q", index)))]


def end_to_end(placed, length):
    sequences, filled = defaultdict(list), 0
    for row in placed:
        for offset, end in pairwise([0, *range(length - filled % length, row.take, length), row.take]):
            sequences[(filled + offset) // length].append(Piece(*row[:4], offset, end - offset, *row[5:]))
        filled += row.take
    return list(sequences.values())


def compare_shards(work, part, corpus, streams, tally):
    length, domains = corpus["pack"]["sequence_length"], [source["domain"] for source in corpus["source"]]
    lanes = [[sequence for table in tables for sequence in table] for _, tables in streams]
    if corpus["mixture"]["unit"] == "sequences" and part == "train":
        kept = [lane[: sum(row.take for row in placed) // length] for lane, (placed, _) in zip(lanes, streams, strict=True)]
        tally["sequences left out"] += sum(map(len, lanes)) - sum(map(len, kept))
        lanes = kept
    tokens = {int(path.name[:5]): path.read_bytes() for path in work.glob("tokens/*/*.tokens")}
    turns = [iter(lane) for lane in lanes]
    by_tokens = corpus["mixture"]["unit"] != "sequences"
    sizes = [[sum(piece.length for piece in sequence) if by_tokens else 1 for sequence in lane] for lane in lanes]
    made = [shard_row(next(turns[turn]), tokens, length) for turn in interleaved(sizes)]
    expected = [(number // corpus["pack"]["shard_sequences"], *row) for number, row in enumerate(made)]
    names = ("tokens", *(f"segment_{name}" for name in ("ends", "documents", "sources", "offsets", "epochs")), "loss_mask")
    found = list(rows(work, f"shards/cpt/{part}-*.parquet", names))
    tally["sequences of shards"] += same_rows(f"{work.name}: {part} sequence (shard first)", found, expected)
    tally["tokens of shards"] += sum(row[2][-1] for row in found)
    tally["further shards"] += found[-1][0]
    tally["pieces that go on"] += sum(offset > 0 for row in found for offset in row[5])
    measured = [({domains[source] for source in row[4]}, row[2][-1] if by_tokens else 1) for row in found]
    prefixes(f"{work.name}: {part}", measured, length if by_tokens else 1, tally)


def interleaved(sizes):
    totals, given, place = [sum(lane) for lane in sizes], [0] * len(sizes), [0] * len(sizes)
    for _ in range(sum(map(len, sizes))):
        left = [one for one, lane in enumerate(sizes) if place[one] < len(lane)]
        eligible = [one for one in left if sum(totals) * given[one] <= totals[one] * sum(given)]
        turn = min(eligible, key=lambda one: Fraction(given[one] + sizes[one][place[one]], totals[one]))  # of equal ones the first
        given[turn] += sizes[turn][place[turn]]
        place[turn] += 1
        yield turn


def shard_row(sequence, tokens, length):
    ids, ends = [], []
    for one in sequence:  # two bytes an id: the vocabulary has 1,024
        ids += struct.unpack_from(f"<{one.length}H", tokens[one.object], 2 * (one.start + one.offset))
        ends.append(len(ids))
    segments = ([getattr(one, name) for one in sequence] for name in ("key", "source", "offset", "epoch"))
    return (ids + [0] * (length - len(ids)), ends, *segments, None)


def prefixes(place, found, largest, tally):
    """Every prefix holds each domain within one sequence of its part of the whole; a sequence is of one domain."""
    totals, taken = Counter(), Counter()
    for (domain,), size in found:
        totals[domain] += size
    total = sum(totals.values())
    for step, ((domain,), size) in enumerate(found, 1):
        taken[domain] += size
        for one, of_domain in totals.items():
            if abs(total * taken[one] - of_domain * sum(taken.values())) > total * largest:
                same(f"{place}: first {step} sequences: {one}", taken[one], f"within {largest} of its part")
    tally["prefixes of shards"] += len(found)


if __name__ == "__main__":
    sys.exit(main())
