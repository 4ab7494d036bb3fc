"""The codecs in plain NumPy, payload for payload the oracle of ``csrc/codec``; docs/wire.md."""
