"""Stand-ins for packages that the peers' readers import and, to read tokens from a folder, do not use.

torch alone is half a gigabyte for x86-64. What a reader does call of it is done with numpy here, under torch's names, so
the code that finds, cuts and decodes the data is the peer's own. Everything else is an empty module whose every name is an
empty class; a reader that came to rely on one would fail, not pass.
"""

import abc
import importlib.abc
import importlib.machinery
import sys
import types

import numpy

PACKAGES = {
    "PIL", "boto3", "botocore", "brotli", "lightning_sdk", "obstore", "requests",
    "snappy", "tifffile", "torch", "torchvision", "transformers", "urllib3", "zstd",
}  # fmt: skip


class _Meta(abc.ABCMeta):
    """Lets names of an empty class be asked for and combined, as type annotations do."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _empty(name)

    def __or__(cls, other):
        return cls

    def __ror__(cls, other):
        return cls

    def __getitem__(cls, item):
        return cls


def _empty(name):
    return _Meta(name, (), {"__init__": lambda self, *a, **k: None, "__init_subclass__": classmethod(lambda cls, **k: None)})


class _Module(types.ModuleType):
    __path__ = []
    __version__ = "2.15.0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _empty(name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in PACKAGES else None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        known = {"torch": _torch, "torch.utils.data": _torch_data, "torch.distributed": _torch_distributed}
        known.get(module.__name__, lambda module: None)(module)


def _torch(module):
    kinds = {"long": numpy.int64, "int": numpy.int32, "half": numpy.float16, "float": numpy.float32, "double": numpy.float64}
    names = "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split()
    for name, kind in {**{name: getattr(numpy, name) for name in names}, **kinds}.items():
        setattr(module, name, numpy.dtype(kind))
    module.bool = numpy.dtype(bool)
    module.bfloat16 = module.complex32 = module.complex64 = module.complex128 = None
    module.tensor = module.as_tensor = lambda values, dtype=None: numpy.asarray(values, dtype=dtype)
    module.ones = lambda size, dtype=None: numpy.ones(size, dtype=dtype)
    module.cat = numpy.concatenate
    module.cumsum = lambda values, dim: numpy.cumsum(values, axis=dim)
    module.where = numpy.where
    module.ones_like = lambda values, dtype=None: numpy.ones_like(values, dtype=dtype)


def _torch_data(module):
    # One process reads.
    module.get_worker_info = lambda: None


def _torch_distributed(module):
    module.is_available = module.is_initialized = lambda: False


def install():
    """From now on the packages above are found; to be called before a peer is imported."""
    sys.meta_path.append(_Finder())
