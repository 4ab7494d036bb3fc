"""Readers of data files, one module per format; every one reads gzip too, told by its content."""

from mpimlsys.data.formats.csv import read_csv
from mpimlsys.data.formats.files import Table, is_libsvm, read_bytes, read_table
from mpimlsys.data.formats.idx import read_idx
from mpimlsys.data.formats.libsvm import SparseRows, read_libsvm, read_sparse
from mpimlsys.data.formats.numpy import read_npy, read_npz

__all__ = [
    "SparseRows",
    "Table",
    "is_libsvm",
    "read_bytes",
    "read_csv",
    "read_idx",
    "read_libsvm",
    "read_npy",
    "read_npz",
    "read_sparse",
    "read_table",
]
