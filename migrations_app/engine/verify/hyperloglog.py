"""HyperLogLogs by what they count: their registers.

The same HyperLogLog has several byte forms: sparse or dense (a server changes over at its own hll-sparse-max-bytes), the same
registers split differently into sparse runs, and a cached cardinality in the header that PFCOUNT alone updates.
Format: the comment at the top of `hyperloglog.c` of Redis and Valkey.
"""

from __future__ import annotations

_REGISTERS = 16384
_HEADER = 16
_DENSE = _HEADER + _REGISTERS * 6 // 8


def registers(data: bytes) -> bytes | None:
    """The 16384 registers, one byte each; None when the string is no valid HyperLogLog."""
    if data[:4] != b"HYLL" or len(data) < _HEADER:
        return None
    if data[4] == 0:
        return _dense(data) if len(data) == _DENSE else None
    return _sparse(data) if data[4] == 1 else None


def same(a: bytes, b: bytes) -> bool:
    """Whether both strings are HyperLogLogs of the same registers."""
    if (left := registers(a)) is None:
        return False
    return left == registers(b)


def _dense(data: bytes) -> bytes:
    out = bytearray(_REGISTERS)
    for group in range(_REGISTERS // 4):  # four registers of six bits in three bytes, lowest bits first
        at = _HEADER + group * 3
        bits = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        out[group * 4 : group * 4 + 4] = bytes((bits & 63, bits >> 6 & 63, bits >> 12 & 63, bits >> 18))
    return bytes(out)


def _sparse(data: bytes) -> bytes | None:
    out = bytearray()
    at = _HEADER
    while at < len(data) and len(out) <= _REGISTERS:
        byte = data[at]
        at += 1
        if byte & 0x80:  # VAL: 1vvvvvxx
            out += bytes(((byte >> 2 & 31) + 1,)) * ((byte & 3) + 1)
        elif byte & 0x40:  # XZERO: 01xxxxxx yyyyyyyy
            if at == len(data):
                return None
            out += bytes(((byte & 63) << 8 | data[at]) + 1)
            at += 1
        else:  # ZERO: 00xxxxxx
            out += bytes((byte & 63) + 1)
    return bytes(out) if len(out) == _REGISTERS else None
