"""The peers' own readers on our exports: mosaicml-streaming, litdata, datatrove. Each gives windows of T columns."""

import numpy

import standins

standins.install()

from datatrove.utils.dataset import DatatroveFolderDataset  # noqa: E402
from litdata.streaming.config import ChunksConfig  # noqa: E402
from litdata.streaming.item_loader import TokensLoader  # noqa: E402
from litdata.streaming.sampler import ChunkedIndex  # noqa: E402
from litdata.streaming.serializers import _get_serializers  # noqa: E402
from streaming.base.local import LocalDataset  # noqa: E402


def mds(folder):
    """Samples in order, as dictionaries of columns, through the reader of local MDS data sets."""
    data = LocalDataset(local=str(folder))
    return [data[index] for index in range(len(data))]


def litdata(folder, length):
    """Blocks of `length` ids over all chunks, through the chunk index and the item loader for tokens."""
    loader = TokensLoader(block_size=length)
    config = ChunksConfig(str(folder), _get_serializers(None), None, item_loader=loader)
    blocks = []
    for index in range(len(config)):
        place = ChunkedIndex(*config._get_chunk_index_from_index(index))
        path, begin, size = config[place]
        blocks.append(loader.load_item_from_chunk(index, place.chunk_index, path, begin, size))
    return numpy.stack(blocks)


def ds(folder, length, width):
    """Windows of seq_len + 1 = `length` ids, and their positions from the index of documents."""
    data = DatatroveFolderDataset(str(folder), length - 1, filename_pattern="*.ds", token_size=width, return_positions=True)
    items = [data[index] for index in range(len(data))]
    return numpy.stack([item["input_ids"] for item in items]), numpy.stack([item["positions"] for item in items])
