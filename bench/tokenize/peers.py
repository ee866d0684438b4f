"""Encodes texts in memory with another tokenizer and prints one line of JSON about it.

    peers.py huggingface TOKENIZER.json TEXTS.jsonl --threads N --passes P     encode_batch_fast of the tokenizers package
    peers.py gigatoken TOKENIZER.json TEXTS.jsonl --threads N --passes P       encode_batch
    peers.py sentencepiece TOKENIZER.model TEXTS.jsonl --threads N --passes P  encode of a list
    peers.py gpt2 FILE.gguf OUT.json                          no tool: GPT-2's vocabulary as a tokenizer.json
    peers.py train TEXTS.jsonl OUT.json --vocabulary N        no tool: a byte-level vocabulary with Llama 3's pattern

TEXTS.jsonl has one JSON object with `text` a line. `seconds` are those of the passes alone and `load_seconds` those of the
tokenizer file, without the start of the interpreter. Ids are compared by their number and the CRC-32 of all of them, each
four bytes, little-endian. Text that spells a special token stays text.
"""

import argparse
import json
import os
import struct
import sys
import time
import zlib
from pathlib import Path

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def main():
    parser = argparse.ArgumentParser(description="encodes with another tokenizer")
    parser.add_argument("tool", choices=[*TOOLS, "gpt2", "train"])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=128_000)
    options = parser.parse_args()
    if options.tool == "gpt2":
        write_gpt2(options.first, options.second)
    elif options.tool == "train":
        train(options.first, options.second, options.vocabulary)
    else:
        print(json.dumps(timed(options)))
    return 0


def texts(path):
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def timed(options):
    # Read by the thread pools of the Rust packages when they start.
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    given = texts(options.second)
    (begin, cpu_begin), encode = TOOLS[options.tool](options)
    loading = {"load_seconds": time.perf_counter() - begin, "load_cpu_seconds": time.process_time() - cpu_begin}
    seconds, cpu_seconds, found = [], [], None
    for _ in range(options.passes):
        found = None
        begin, cpu_begin = clocks()
        found = encode(given)
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
    tokens, checksum = summed(found)
    size = sum(len(text.encode()) for text in given)
    passes = {"seconds": seconds, "cpu_seconds": cpu_seconds}
    return {**loading, **passes, "bytes": size, "tokens": tokens, "crc32": checksum}


def clocks():
    """Seconds of the wall and of the processor, all threads of this process."""
    return time.perf_counter(), time.process_time()


def summed(found):
    import numpy

    tokens = checksum = 0
    for one in found:
        ids = numpy.asarray(getattr(one, "ids", one), dtype="<u4")
        tokens += len(ids)
        checksum = zlib.crc32(ids.tobytes(), checksum)
    return tokens, checksum


def huggingface(options):
    from tokenizers import Tokenizer

    begin = clocks()
    tokenizer = Tokenizer.from_file(str(options.first))
    tokenizer.encode_special_tokens = True
    return begin, lambda given: tokenizer.encode_batch_fast(given, add_special_tokens=False)


def gigatoken(options):
    import gigatoken as package

    begin = clocks()
    tokenizer = package.Tokenizer(str(options.first))
    return begin, lambda given: tokenizer.encode_batch(given, parallel=True)


def sentencepiece(options):
    import sentencepiece as package

    begin = clocks()
    processor = package.SentencePieceProcessor(model_file=str(options.first))
    return begin, lambda given: processor.encode(given, num_threads=options.threads)


TOOLS = {"huggingface": huggingface, "gigatoken": gigatoken, "sentencepiece": sentencepiece}


# Vocabularies


def level(with_pattern):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": with_pattern}


def write_gpt2(gguf, out):
    """GPT-2's tokens and merges are strings in the header of the file (ggml's format, versions 2 and 3)."""
    strings = gguf_strings(gguf.read_bytes())
    tokens, merges = strings["tokenizer.ggml.tokens"], strings["tokenizer.ggml.merges"]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    end = {"id": tokens.index("<|endoftext|>"), "content": "<|endoftext|>", **special}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {text: number for number, text in enumerate(tokens)},
        "merges": merges,
    }
    file = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end],
        "normalizer": None,
        "pre_tokenizer": level(True),
        "post_processor": None,
        "decoder": level(True),
        "model": model,
    }
    out.write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")


def gguf_strings(data):
    place = 0

    def take(form):
        nonlocal place
        found = struct.unpack_from("<" + form, data, place)[0]
        place += struct.calcsize("<" + form)
        return found

    def text():
        nonlocal place
        length = take("Q")
        place += length
        return data[place - length : place].decode()

    def value(kind):
        nonlocal place
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = take("I"), take("Q")
            return [value(inner) for _ in range(count)]
        place += SCALARS[kind]
        return None

    if take("4s") != b"GGUF":
        raise SystemExit("not a .gguf file")
    take("I")
    take("Q")
    return {text(): value(take("I")) for _ in range(take("Q"))}


def train(source, out, vocabulary):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated")
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts(source), trainer)
    file = json.loads(tokenizer.to_str())
    # As in Llama 3's file.
    file["model"]["ignore_merges"] = True
    out.write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
