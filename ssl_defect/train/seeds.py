"""Seeds made of several numbers, so that whatever is random is a pure function of them."""

from __future__ import annotations

import hashlib


def mixed_seed(*parts: int) -> int:
    """One seed in [0, 2**63) out of several numbers, such as seed, step and rank."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
