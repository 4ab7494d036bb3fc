"""Frames in bytes: the example of docs/wire.md, and the sizes that it gives."""

import re
from pathlib import Path

import numpy as np
import pytest

from mpimlsys.errors import CorruptData
from mpimlsys.kernels.codecs import cast, quantise

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()


def test_the_example_is_what_the_extension_sends(extension):
    codec, numbers, lines = re.search(
        r"`(\w+)` of `\[(.+)\]`:\n\n```\n(.+?)```", PAGE, re.S
    ).groups()
    x = np.float32([float(number) for number in numbers.split(",")])
    hexadecimal = "".join(re.match(r"(?:[0-9a-f]{2} )+", line)[0] for line in lines.splitlines())
    frame = np.frombuffer(bytes.fromhex(hexadecimal), np.uint8)
    assert extension.encode(extension.Spec(codec), x).tobytes() == frame.tobytes()
    assert np.allclose(extension.decode(frame), [1, -1, 4 / 7, 0, -2 / 7], rtol=1e-6)


def test_the_table_names_the_codecs_and_their_bits(extension):
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (\d+) \|", PAGE, re.M)
    assert [name for _, name, _ in rows] == [*cast.CODECS, *quantise.BITS]
    for number, name, bits in rows:
        for count in (0, 1, 255, 256, 257, 1000):
            frame = extension.encode(extension.Spec(name), np.ones(count, np.float32))
            assert frame[5] == int(number)
            b = int(bits)
            wanted = b * count // 8
            if name in quantise.BITS:
                wanted = 4 * -(-count // 256) + 32 * b * (count // 256) + -(-b * (count % 256) // 8)
            assert len(frame) == 32 + wanted


@pytest.mark.parametrize(
    ("byte", "message"),
    [
        (0, "does not begin like one"),
        (4, "version"),
        (5, "unknown codec"),
        (7, "unknown dtype"),
        (8, "unknown flags"),
        (12, "checksum does not hold"),
        (16, "checksum does not hold"),
        (27, "bytes were announced"),
        (40, "checksum does not hold"),
    ],
)
def test_what_is_wrong_is_said(extension, byte, message):
    frame = extension.encode(extension.Spec("int8"), np.ones(300, np.float32))
    frame[byte] ^= 0x55
    with pytest.raises(CorruptData, match=message):
        extension.decode(frame)
