"""Ramps: how far a mixture has moved from the old one to the new one, step by step, in integers.

A ramp of `length` steps is cut into at most `MAX_PIECES` pieces, one a step where the length allows it; weights are
constant within a piece. A piece has the value of the ramp at its middle, so the weights of a whole linear or cosine
ramp add up to exactly half old, half new. The cosine is computed in fixed point, not by the platform's libm, because it
decides the order of samples and must be the same everywhere.
"""

from dataclasses import dataclass

from mixer.weights import UNIT

MAX_PIECES = 4096
SHAPES = ("step", "linear", "cosine")


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A gradual change over `length` steps (≥ 1), `shape` "linear" or "cosine". A "step" change is no ramp at all."""

    shape: str
    length: int

    @property
    def num_pieces(self) -> int:
        return min(self.length, MAX_PIECES)

    def piece_at(self, offset: int) -> int:
        """The piece that holds the step `offset` steps after the ramp's start."""
        return min(offset * self.num_pieces // self.length, self.num_pieces - 1)

    def piece_start(self, piece: int) -> int:
        """Offset of the first step of `piece`."""
        return -(-piece * self.length // self.num_pieces)

    def progress(self, piece: int) -> int:
        """How far the mixture has moved in `piece`, in parts per 10^9."""
        numerator, denominator = 2 * piece + 1, 2 * self.num_pieces
        if self.shape == "linear":
            return (2 * UNIT * numerator + denominator) // (2 * denominator)
        return _half_cosine(numerator, denominator)


_BITS = 128
_PI = 0x3243F6A8885A308D313198A2E03707344  # π · 2^128, from its hexadecimal digits


def _half_cosine(numerator: int, denominator: int) -> int:
    """(1 − cos(π·x)) / 2 for x = numerator / denominator in [0, 1], in parts per 10^9, by the Taylor series of cos."""
    angle = _PI * numerator // denominator
    square = angle * angle >> _BITS
    term, cosine, order = 1 << _BITS, 0, 0
    while term:
        cosine += term
        order += 2
        term = (
            -((term * square >> _BITS) // ((order - 1) * order))
            if term > 0
            else (-term * square >> _BITS) // ((order - 1) * order)
        )
    return (((1 << _BITS) - cosine) * UNIT + (1 << _BITS)) >> (_BITS + 1)
