"""A stand-in for CuPy without a GPU: arrays that refuse what CuPy's refuse.

They hold NumPy arrays and compute with them, so that the numbers are those of the host. They are
never mixed with NumPy's arrays, are converted by nobody unasked, know only functions that CuPy
has (``FUNCTIONS``, compared with CuPy where it is installed), and count what would wait for the
device.
"""

import types

import numpy as np

# of the module, by dotted names; all that were used are compared with CuPy's
FUNCTIONS = frozenset(
    """
    absolute add arange asarray ascontiguousarray bitwise_and bitwise_or clip
    divide empty empty_like equal exp greater greater_equal isfinite less
    less_equal linalg.norm log log1p matmul maximum minimum multiply negative not_equal
    sqrt square stack subtract sum tanh where zeros zeros_like
    """.split()  # noqa: SIM905
)
METHODS = frozenset(
    """
    T all argmax astype dtype get itemsize max mean min nbytes ndim reshape shape size
    sum transpose
    """.split()  # noqa: SIM905
)


class Counter:
    """How often something waited for the device."""

    waits = 0


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the device; as CuPy's, it stays an array without axes where NumPy's does not."""

    def __init__(self, raw):
        self._raw = np.asarray(raw)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    @property
    def __cuda_array_interface__(self):
        raw = self._raw
        where = {"data": (raw.ctypes.data, False), "strides": raw.strides, "version": 3}
        return {"shape": raw.shape, "typestr": raw.dtype.str, **where}

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__":
            return NotImplemented
        _known(ufunc.__name__)
        out = kwargs.pop("out", (None,))[0]
        if out is not None:
            kwargs["out"] = _own(out)
        if ufunc is np.matmul and any(x.ndim > 2 for x in inputs):
            raise TypeError("CuPy 14 fails at products of stacks of 16-bit matrices")
        result = ufunc(*map(_operand, inputs), **kwargs)
        if out is not None:
            return out
        kinds = {x.dtype for x in inputs if isinstance(x, Array)}
        if ufunc is np.matmul and len(kinds) == 1:  # NumPy's product of bfloat16 is wider
            result = result.astype(*kinds)
        return Array(result)

    def __array_function__(self, func, types, args, kwargs):
        name = ".".join([*func.__module__.split(".")[1:], func.__name__])
        return _call(_known(name), func, args, kwargs)

    def __getitem__(self, index):
        unwrapped = self._places(index)
        if Ellipsis not in [place for place in unwrapped if not isinstance(place, np.ndarray)]:
            unwrapped = (*unwrapped, Ellipsis)  # a view, also without axes
        return Array(self._raw[unwrapped])

    def __setitem__(self, index, value):
        self._raw[self._places(index)] = _operand(value)

    def _places(self, index):
        places = [_index(place) for place in (index if isinstance(index, tuple) else (index,))]
        if any(isinstance(place, np.ndarray) and place.dtype == bool for place in places):
            Counter.waits += 1  # how many are True is counted on the host
        for axis, place in enumerate(places):
            if isinstance(place, np.ndarray) and place.dtype.kind in "iu":
                # what is out of range begins again, as in CuPy
                places[axis] = place % max(1, self._raw.shape[axis])
        return tuple(places)

    def __len__(self):
        return len(self._raw)

    def __float__(self):
        return float(self.get())

    def __bool__(self):
        return bool(self.get())

    def __format__(self, spec):
        return format(self.get()[()], spec)

    def get(self):
        Counter.waits += 1
        return self._raw.copy()

    def __getattr__(self, name):
        if name not in METHODS:
            raise AttributeError(f"CuPy's arrays may have no {name!r}: see METHODS of strict.py")
        value = getattr(self._raw, name)
        if isinstance(value, np.ndarray):
            return Array(value)
        if not callable(value) or name == "dtype":
            return value
        return lambda *args, **kwargs: _wrapped(value(*args, **kwargs))


class Namespace(types.ModuleType):
    """What stands for the module ``cupy``."""

    ndarray = Array

    def __init__(self, gpus=1):
        super().__init__("cupy")
        self.device_used = None
        self.cuda = types.SimpleNamespace(
            runtime=types.SimpleNamespace(getDeviceCount=lambda: gpus),
            Device=self._device,
            nvrtc=types.SimpleNamespace(getVersion=lambda: (13, 0)),
            get_cublas_handle=lambda: 1,
        )
        self.add = types.SimpleNamespace(at=_add_at)

    def __getattr__(self, name):
        _known(name)
        if name in ("asarray", "ascontiguousarray"):  # the ways onto the device
            return lambda values, *args: Array(
                getattr(np, name)(values._raw if isinstance(values, Array) else values, *args)
                .copy()
            )  # fmt: skip
        return lambda *args, **kwargs: _call(name, getattr(np, name), args, kwargs)

    def waits(self):
        return Counter.waits

    def forget(self):
        Counter.waits = 0

    def _device(self, index):
        return types.SimpleNamespace(use=lambda: setattr(self, "device_used", index))


def _add_at(table, rows, updates):
    # what is out of range begins again, as in CuPy
    np.add.at(_own(table), _own(rows) % len(table), _own(updates))


def _call(name, function, args, kwargs):
    _known(name)
    unwrapped = [
        [_operand(value) for value in arg] if isinstance(arg, (list, tuple)) else _operand(arg)
        for arg in args
    ]
    out = kwargs.get("out")
    kwargs = {key: _operand(value) for key, value in kwargs.items()}
    result = function(*unwrapped, **kwargs)
    if name == "where" and result.dtype.char == "E":  # CuPy's widens bfloat16
        result = result.astype(np.float32)
    return out if out is not None else _wrapped(result)


def _wrapped(result):
    return Array(result) if isinstance(result, (np.ndarray, np.generic)) else result


def _known(name):
    if name not in FUNCTIONS:
        raise TypeError(f"CuPy may not know {name!r}: see FUNCTIONS of strict.py")
    return name


def _operand(value):
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of NumPy met one of the device")
    return value._raw if isinstance(value, Array) else value


def _own(out):
    if not isinstance(out, Array):
        raise TypeError("an array of the device is needed")
    return out._raw


def _index(place):
    if isinstance(place, (np.ndarray, list)):
        raise TypeError("an index that is not on the device")
    return _operand(place)
