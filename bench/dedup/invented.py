"""Invented clinical text with known copies, for the quality of the deduplication. No sentence of it is from anywhere else.

`write` makes corpus.jsonl (`id`, `text`) and truth.jsonl (`kind`, `ids`, `keep`): each line of the truth is a group of
documents and how they were made alike; with `keep` they differ in a clinical value and none may be removed by `strict`.
The first id is the text that the others were made from. Similarities are not in it: who reads the corpus measures them.
"""

import json

BASES = 4000
# Copies of each base, one aimed at each bin of similarity from 0.35 to 1.
BINS = [round(0.35 + 0.05 * number, 2) for number in range(13)]
BASE_WORDS = (160, 280)
SHINGLE_WORDS = 5
GROUPS = 150

SUBJECTS = """patient consultant nurse surgeon team pharmacist relative physiotherapist registrar anaesthetist therapist midwife
dietitian radiologist cardiologist pathologist carer resident technician counsellor""".split()
VERBS = """reviewed described noted repeated stopped continued measured arranged reported discussed observed confirmed declined
explained recorded examined supported changed requested completed followed delayed replaced tolerated started""".split()
ADJECTIVES = """stable mild moderate severe chronic acute recurrent diffuse focal persistent transient benign regular irregular
tender swollen painless bilateral central peripheral early late small large narrow recent previous dense soft firm""".split()
NOUNS = """cough fever wound ankle ventricle aorta kidney liver spleen bladder antibiotic infusion dressing catheter fracture
murmur effusion lesion nodule ulcer rash tremor headache appetite sleep mobility balance vision hearing swallowing memory
weight sodium potassium creatinine haemoglobin platelets glucose albumin bilirubin calcium lactate troponin culture biopsy
scan ultrasound endoscopy radiograph clinic ward theatre discharge admission consent allergy vaccine diet exercise splint
inhaler insulin heparin statin steroid oxygen saline thyroid pancreas stomach oesophagus colon rectum femur tibia humerus
radius ulna scapula sternum rib vertebra disc nerve artery vein valve septum atrium bronchus pleura diaphragm larynx
pharynx tonsil retina cornea lens eyelid ear sinus tooth jaw neck shoulder elbow wrist finger hip knee heel toe skin nail
hair lymph marrow plasma serum urine stool sputum bile tear saliva sweat""".split()
LINKS = "after before during without despite because while until although under beside near behind within beyond".split()
UNITS = "mg ml mmol units litres kg cm mmHg bpm percent".split()

# A value, the one it is changed to, and the sentence around it. Without digits `tolerant` cannot see the difference.
VALUES = {
    "dose": ("Enoxaparin {} mg was given under the skin once a day.", ("40", "60", "80", "20")),
    "laterality": ("Marking of the {} knee was done before the operation began.", ("left", "right")),
    "negation": ("On this film there is {}pneumothorax seen at the apex.", ("no ", "")),
    "minus-sign": ("The base excess was {} on arterial blood this morning.", ("-4.2", "4.2")),
    "date": ("The cast came off on {} in the plaster room.", ("2026-03-14", "2026-03-15", "2026-04-14")),
    "laboratory": ("Serum potassium came back as {} mmol/L before breakfast.", ("3.1", "5.9", "4.4")),
    "comparison": ("The troponin was {} ng/L when he came in.", ("<14", ">14", "14")),
    "unit": ("Levothyroxine 50 {} was taken each morning.", ("mcg", "mg")),
}

# What the first text says and the second one says otherwise, in runs of words that all stand in the first one.
DAYS = "On day one the temperature was {} degrees in the morning. On day two the temperature was {} degrees in the morning."
EYES = "For the left eye the chart acuity was {} at six metres. For the right eye the chart acuity was {} at six metres."
MOVED = {
    "value-elsewhere": (DAYS.format("37.2", "38.9"), DAYS.format("38.9", "38.9")),
    "values-swapped": (EYES.format("6/9", "6/60"), EYES.format("6/60", "6/9")),
    "value-spliced": (DAYS.format("37.2", "38.9"), "On day one the temperature was 38.9 degrees in the morning."),
}


def write(folder, generator, bases):
    corpus = Corpus()
    for number in range(bases):
        add_near(corpus, number, generator)
    for number in range(GROUPS):
        add_exact(corpus, number, generator)
        add_held(corpus, number, generator)
        add_chain(corpus, number, generator)
        add_values(corpus, number, generator)
    add_normals(corpus, generator)
    folder.mkdir(parents=True, exist_ok=True)
    corpus.write(folder)
    print(json.dumps({"documents": len(corpus.texts), "groups": len(corpus.groups)}))


class Corpus:
    """Documents and groups in the order in which they were made."""

    def __init__(self):
        self.texts = {}
        self.groups = []

    def add_group(self, kind, number, texts, keep=False):
        ids = [f"{kind}-{number:05}-{at:02}" for at in range(len(texts))]
        self.texts.update(zip(ids, texts, strict=True))
        self.groups.append({"kind": kind, "ids": ids, "keep": keep})

    def write(self, folder):
        documents = ({"id": id_, "text": text} for id_, text in self.texts.items())
        for name, rows in (("corpus.jsonl", documents), ("truth.jsonl", self.groups)):
            with (folder / name).open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# Groups


def add_near(corpus, number, generator):
    """One base and a copy for each bin, with as many words replaced as the middle of the bin asks for on average."""
    base = note(generator).split(" ")
    texts = [" ".join(base)]
    for low in BINS:
        similarity = low + 0.05 * generator.random()
        # A shingle stays with probability (1 - p)^5; of two sets of one size with this share in common J = c / (2 - c).
        kept = 2 * similarity / (1 + similarity)
        rate = 1 - kept ** (1 / SHINGLE_WORDS)
        texts.append(" ".join(word if generator.random() >= rate else other_word(word, generator) for word in base))
    corpus.add_group("near", number, texts)


def add_exact(corpus, number, generator):
    text = note(generator)
    spaced = text.replace(". ", ".\n").replace(", ", ",  ")
    corpus.add_group("exact-whitespace", number, [text, spaced, f"\n {text}\t\n"])
    other = note(generator)
    corpus.add_group("case", number, [other, other.upper()])


def add_held(corpus, number, generator):
    """Texts whose every word stands in another one in order: without an end, without a beginning, with one more sentence."""
    words = note(generator).split(" ")
    cut = 1 + pick(generator, len(words) // 12)
    corpus.add_group("cut-end", number, [" ".join(words), " ".join(words[:-cut])])
    words = note(generator).split(" ")
    cut = 1 + pick(generator, len(words) // 12)
    corpus.add_group("cut-start", number, [" ".join(words), " ".join(words[cut:])])
    text = note(generator)
    corpus.add_group("sentence-added", number, [text, f"{text} {sentence(generator)}"])
    sentences = note(generator).split(". ")
    gone = 1 + pick(generator, len(sentences) - 2)
    corpus.add_group("sentence-left-out", number, [". ".join(sentences), ". ".join(sentences[:gone] + sentences[gone + 1 :])])


def add_chain(corpus, number, generator):
    """A ~ B ~ C ~ …: neighbours are alike, the ends are not. Words without digits are replaced, or cut at either end."""
    words = note(generator).split(" ")
    texts = [" ".join(words)]
    for _ in range(7):
        words = list(words)
        at = pick(generator, len(words))
        words[at] = other_word(words[at], generator) if is_plain(words[at]) else words[at]
        texts.append(" ".join(words))
    corpus.add_group("chain-of-words", number, texts)
    words = note(generator).split(" ")
    corpus.add_group("chain-of-cuts", number, [" ".join(words[: len(words) - 6 * at]) for at in range(8)])
    words = note(generator).split(" ")
    corpus.add_group("chain-shifted", number, [" ".join(words[5 * at : len(words) - 5 * (7 - at)]) for at in range(8)])


def add_values(corpus, number, generator):
    """A note with one value, and the same note with other values."""
    for kind, (around, values) in VALUES.items():
        place, text = pick(generator, 9), note(generator)
        corpus.add_group(f"value-{kind}", number, [put(text, place, around.format(value)) for value in values], keep=True)
    for kind, values in MOVED.items():
        place, text = pick(generator, 9), note(generator)
        corpus.add_group(f"moved-{kind}", number, [put(text, place, value) for value in values], keep=True)


def add_normals(corpus, generator):
    """Radiology reports and summaries of one template each: all alike, each with a patient's own values."""
    reports = [normal_report(generator) for _ in range(GROUPS * 2)]
    corpus.add_group("template-radiology", 0, list(dict.fromkeys(reports)), keep=True)
    template = [note(generator) for _ in range(2)]
    summaries = [summary(template, generator) for _ in range(GROUPS * 2)]
    corpus.add_group("template-discharge", 0, list(dict.fromkeys(summaries)), keep=True)


# Text


def normal_report(generator):
    size, dose = 40 + pick(generator, 30), 100 + pick(generator, 900)
    day = f"2026-{1 + pick(generator, 12):02}-{1 + pick(generator, 28):02}"
    return (
        f"EXAMINATION: Chest radiograph, two views. DATE: {day}. COMPARISON: None. INDICATION: Cough. TECHNIQUE: Frontal and "
        f"lateral views of the chest were obtained at a dose of {dose} microgray. FINDINGS: The heart is normal in size, with a "
        f"transverse diameter of {size}.{pick(generator, 10)} percent of the chest. The mediastinal contours are normal. The "
        "lungs are clear without focal consolidation. There is no pleural effusion and no pneumothorax. The visible bones are "
        "intact. IMPRESSION: No acute disease of the chest is seen on these two views."
    )


def summary(template, generator):
    def value(low, high):
        return f"{low + pick(generator, (high - low) * 10) / 10:.1f}"

    laboratory = (
        f"Sodium {value(128, 148)} mmol/L, potassium {value(3, 6)} mmol/L, creatinine {value(50, 200)} umol/L, "
        f"haemoglobin {value(80, 160)} g/L, base excess {value(-8, 8)} mmol/L."
    )
    stay = f"Admitted 2026-{1 + pick(generator, 12):02}-{1 + pick(generator, 28):02} for {1 + pick(generator, 20)} days."
    drug = f"He goes home on bisoprolol {pick(generator, 20) * 1.25:g} mg and furosemide {20 * (1 + pick(generator, 6))} mg."
    return f"{stay} {template[0]} {laboratory} {template[1]} {drug}"


def note(generator):
    low, high = BASE_WORDS
    wanted, text, words = low + pick(generator, high - low), [], 0
    while words < wanted:
        text.append(sentence(generator))
        words += text[-1].count(" ") + 1
    return " ".join(text)


def sentence(generator):
    words = ["The", *phrase(SUBJECTS, generator), one(VERBS, generator), "the", *phrase(NOUNS, generator)]
    words += [one(LINKS, generator), "the", *phrase(NOUNS, generator)]
    if generator.random() < 0.4:
        words += ["and", one(VERBS, generator), "the", *phrase(NOUNS, generator)]
    if generator.random() < 0.3:
        words += ["at", str(1 + pick(generator, 900)), one(UNITS, generator)]
    if generator.random() < 0.3:
        words[-1] += ","
        words += [one(LINKS, generator), one(NOUNS, generator), "and", one(NOUNS, generator)]
    return " ".join(words) + "."


def phrase(nouns, generator):
    return [one(ADJECTIVES, generator), one(nouns, generator)]


def put(text, place, more):
    """The text with a sentence more after one of its first sentences."""
    sentences = text.split(". ")
    at = 1 + place % (len(sentences) - 1)
    return ". ".join([*sentences[:at], more.removesuffix("."), *sentences[at:]])


def other_word(word, generator):
    """Another word with the punctuation and the first letter of this one; a number becomes another number."""
    core = word.rstrip(".,")
    while True:
        other = str(1 + pick(generator, 900)) if core.isdigit() else one(NOUNS, generator)
        if core[:1].isupper():
            other = other.capitalize()
        if other != core:
            return other + word[len(core) :]


def is_plain(word):
    return word.rstrip(".,").isalpha()


# Draws. Only `random()` of a generator is promised to stay the same from one version of Python to the next.


def pick(generator, count):
    return int(generator.random() * count)


def one(items, generator):
    return items[pick(generator, len(items))]


def shuffle(items, generator):
    for last in range(len(items) - 1, 0, -1):
        at = pick(generator, last + 1)
        items[last], items[at] = items[at], items[last]
