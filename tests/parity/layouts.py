"""Readers of three layouts written from their published descriptions, for trainers without a package to install.

They know nothing of mellama: what they take is what Megatron's IndexedDataset, llm.c's data loader and OLMo's memory maps
take. Each gives the windows as an array of T columns.
"""

import csv
import gzip
import io
import struct

import numpy


def megatron(folder, split, length):
    """`.idx`: magic, version, type code, counts, lengths, byte offsets, document index."""
    windows = []
    for path in sorted(folder.glob(f"{split}-*.idx")):
        index = path.read_bytes()
        assert index[:9] == b"MMIDIDX\x00\x00"
        version, code, sequences, documents = struct.unpack_from("<QBQQ", index, 9)
        assert version == 1 and documents == sequences + 1
        kind = {1: numpy.uint8, 4: numpy.int32, 8: numpy.uint16}[code]
        lengths = numpy.frombuffer(index, numpy.int32, sequences, 34)
        pointers = numpy.frombuffer(index, numpy.int64, sequences, 34 + 4 * sequences)
        order = numpy.frombuffer(index, numpy.int64, documents, 34 + 12 * sequences)
        assert 34 + 12 * sequences + 8 * documents == len(index) and order[-1] == sequences
        ids = path.with_suffix(".bin").read_bytes()
        for count, pointer in zip(lengths, pointers, strict=True):
            windows.append(numpy.frombuffer(ids, kind, count, pointer).astype(numpy.int64))
    return numpy.stack(windows)


def llmc(folder, split, length):
    """256 words of header, then ids; the C loader's own checks, strides of `length` with one token of overlap."""
    windows = []
    for path in sorted(folder.glob(f"{split}_*.bin")):
        data = path.read_bytes()
        magic, version, count = struct.unpack_from("<iii", data)
        kind = {(20240520, 1): numpy.uint16, (20240801, 7): numpy.uint32}[magic, version]
        assert len(data) == 1024 + count * numpy.dtype(kind).itemsize and count % length == 0
        windows.append(numpy.frombuffer(data, kind, count, 1024).astype(numpy.int64).reshape(-1, length))
    return numpy.concatenate(windows)


def olmo(folder, split, length, width):
    """Raw memory maps of ids and label masks, and the metadata rows of each."""
    windows, masks, rows = [], [], []
    for path in sorted(folder.glob(f"{split}-*.npy")):
        ids = numpy.memmap(path, mode="r", dtype={2: numpy.uint16, 4: numpy.uint32}[width])
        mask = numpy.memmap(folder / "label_mask" / path.name, mode="r", dtype=numpy.bool_)
        assert len(ids) == len(mask) and len(ids) % length == 0
        text = gzip.decompress(path.with_suffix(".csv.gz").read_bytes()).decode()
        of_file = [(int(row[0]), int(row[1]), row[2]) for row in csv.reader(io.StringIO(text, newline=""))]
        assert [row[0] for row in of_file] == [0] + [row[1] for row in of_file[:-1]] and of_file[-1][1] == len(ids)
        windows.append(numpy.asarray(ids, numpy.int64).reshape(-1, length))
        masks.append(numpy.asarray(mask).reshape(-1, length))
        rows.append(of_file)
    return numpy.concatenate(windows), numpy.concatenate(masks), rows
