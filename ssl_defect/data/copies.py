"""Near-copies: the same part photographed again, found from the pixels alone.

Three steps, each linear in memory. Every picture, in eight turns and mirrors and several crops, looks for its nearest
others among coarse thumbnails; each candidate is laid over the picture and compared in fine detail; pairs that stand
out from the set's own look-alikes are linked on average, so that one wrong pair does not chain two groups.
"""

from __future__ import annotations

import heapq
import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ssl_defect.console import track
from ssl_defect.data.registration import SIDE, TREND, TURNS, Floats, Window, align, detail, remove_shared

COARSE_SIDE = 32  # pixels of the thumbnails that candidates are found on
CUT_SIDE = 14  # pixels of their crops
COARSE_TREND = 4.0  # pixels of these
CHUNK = 16  # images searched at a time
DIMENSIONS = 96  # of the candidates' descriptor
NEAREST = 8  # candidates per image
FAR = (32, 48, 64)  # ranks of the candidates that stand for look-alikes which are no copies
FAR_PAIRS = 2000
MARGIN = 0.4  # Fisher's z from which a pair is a copy in a set without look-alikes
ALIKE = 1.4  # and so many times the z of the look-alikes' 95% quantile more
EQUAL = 1e-4  # similarities that differ by less are those of rounding
SMALL = 2 * FAR[0]  # sets of fewer images have no look-alikes to compare with
SMALL_FLOOR = 0.65
LARGE = 0.8  # look-alikes of other parts are not so similar (95% quantile of screws 0.54, of solar cells 0.20)
APART = 0.25  # share of the look-alikes below `SMALL_FLOOR` that tells that those above `LARGE` are copies

CROP, CUT = 0.92, 0.8  # side of the crops with nine places, so that shifts are met too; side where one edge is cut off
WINDOWS = (
    [Window(0, 0, 1, 1)]
    + [Window(x * (1 - CROP), y * (1 - CROP), CROP, CROP) for y in (0, 0.5, 1) for x in (0, 0.5, 1)]
    + [Window(place * (1 - CUT), 0, CUT, 1) for place in (0, 1)]
    + [Window(0, place * (1 - CUT), 1, CUT) for place in (0, 1)]
)


def find_copies(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The groups of `search` alone."""
    return search(images)[0]


def search(images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], float]:
    """Group of every image, int64 (N,), numbered from 0 in the order of first rows; an image without copy is alone.

    Found whatever the exposure, uneven light, crop (down to about 80% of each side), stretch, quarter turn, mirror or
    slight angle. A picture without detail is alone: nothing tells whether two white pictures show the same part.

    Args:
        images: (N, S, S, C) uint8, C = 1 or 3, each stretched to the square, S of 64 or more; may be a memory map.

    Returns:
        The groups, and the correlation of look-alikes that are taken for no copies (95% quantile). From `LARGE` on the
        groups are not to be relied on: either all parts look the same, or of each there are more than `FAR[0]`
        pictures, which then stand where look-alikes are looked for. Zero where there are too few to tell.
    """
    rows = np.flatnonzero([np.ptp(image) > 0 for image in images])
    groups = np.arange(len(images), dtype=np.int64)
    if len(rows) < 2:
        return groups, 0.0
    details, coarse = _describe(images, rows)
    ranked, similar = _candidates(coarse)
    every = -(-len(rows) * len(FAR) // FAR_PAIRS)
    alike = ranked[::every, [rank for rank in FAR if rank < ranked.shape[1]]].reshape(-1, 3)
    null = _alike(_verify(details, alike))
    threshold = _threshold(null)
    pairs = _once(ranked[:, :NEAREST], similar[:, :NEAREST])
    scores = _verify(details, pairs)
    labels = link(len(rows), pairs, scores, threshold)
    # An image that is still alone looks further, as far as the time for twice as many pairs as images allows.
    alone = np.flatnonzero(np.bincount(labels, minlength=len(rows))[labels] == 1)
    depth = NEAREST + 2 * len(rows) // max(len(alone), 1)
    more = _once(ranked[alone, NEAREST:depth], similar[alone, NEAREST:depth])
    pairs, scores = np.concatenate([pairs, more]), np.concatenate([scores, _verify(details, more)])
    labels = link(len(rows), pairs, scores, threshold)
    groups[rows] = rows[_first(labels)]
    return np.unique(groups, return_inverse=True)[1].astype(np.int64), _level(null)


def _describe(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Details for comparing, (n, SIDE, SIDE), and coarse ones for searching, (n, COARSE_SIDE ** 2)."""
    fine = np.empty((len(rows), SIDE * SIDE), dtype=np.float32)
    coarse = np.empty((len(rows), COARSE_SIDE * COARSE_SIDE), dtype=np.float32)
    for place, row in enumerate(rows):
        fine[place] = detail(images[row], SIDE, TREND).ravel()
        coarse[place] = detail(images[row], COARSE_SIDE, COARSE_TREND).ravel()
    remove_shared(fine)
    remove_shared(coarse)
    return fine.reshape(-1, SIDE, SIDE), coarse


def _variants() -> Floats:
    """(variants, cut pixels, coarse pixels): every turn and window as a linear map of a coarse thumbnail."""
    pixels = np.eye(COARSE_SIDE**2, dtype=np.float32).reshape(-1, COARSE_SIDE, COARSE_SIDE)
    maps = [
        np.stack([window.cut(image, CUT_SIDE).ravel() for image in turn(pixels)], axis=1)
        for turn in TURNS
        for window in WINDOWS
    ]
    return np.stack(maps)


def _candidates(coarse: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The most similar others of every image, best first: (n, ranks, 3) of image, other image and the variant of the
    first that fits best; and how similar they are, (n, ranks).
    """
    maps = torch.from_numpy(_variants())
    maps -= maps.mean(dim=1, keepdim=True)
    data = torch.from_numpy(coarse)
    gallery = data @ maps[0].T
    basis = torch.linalg.eigh(gallery.T @ gallery)[1][:, -DIMENSIONS:]
    gallery = torch.nn.functional.normalize(gallery @ basis, dim=1)
    queries = torch.einsum("vcp,cd->pvd", maps, basis).reshape(data.shape[1], -1)
    ranks = min(FAR[-1] + 1, len(data) - 1)
    ranked, similarity = [], []
    for start in track(range(0, len(data), CHUNK), -(-len(data) // CHUNK), "looking for near-copies"):
        rows = torch.arange(start, min(start + CHUNK, len(data)))
        query = torch.nn.functional.normalize((data[rows] @ queries).reshape(len(rows), len(maps), -1), dim=2)
        similar = (query.reshape(-1, query.shape[2]) @ gallery.T).reshape(len(rows), len(maps), -1)
        best = similar.amax(dim=1)
        best[torch.arange(len(rows)), rows] = -2
        value, other = best.topk(ranks, dim=1)
        variant = similar.gather(2, other[:, None].expand(-1, len(maps), -1)).argmax(dim=1)
        ranked.append(torch.stack([rows[:, None].expand_as(other), other, variant], dim=2))
        similarity.append(value)
    return torch.cat(ranked).numpy(), torch.cat(similarity).numpy()


def _once(ranked: NDArray[np.int64], similar: Floats) -> NDArray[np.int64]:
    """Each unordered pair of (n, ranks, 3) once, the way round that is more similar, as (P, 3).

    Where both ways are as similar, as without turn and crop, the lower row comes first: rounding, which is another on
    every processor, would choose else, and with it the groups and the split.
    """
    pairs = ranked.reshape(-1, 3)
    value = similar.reshape(-1) + EQUAL * (pairs[:, 0] < pairs[:, 1])
    low, high = np.minimum(pairs[:, 0], pairs[:, 1]), np.maximum(pairs[:, 0], pairs[:, 1])
    order = np.lexsort((pairs[:, 0], -value, high, low))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)
    return pairs[order[new]]


def _verify(details: Floats, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Correlation of every pair after alignment, on all cores."""
    starts = [window.warp(SIDE) for window in WINDOWS]

    def one(pair: NDArray[np.int64]) -> float:
        turn, window = divmod(int(pair[2]), len(WINDOWS))
        return align(details[pair[1]], TURNS[turn](details[pair[0]]), starts[window])

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one thread per pair beats many threads on one small picture
    try:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return np.array(list(track(pool.map(one, pairs), len(pairs), "comparing near-copies")), dtype=np.float64)
    finally:
        cv2.setNumThreads(threads)


def _alike(null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of the look-alikes that are no copies: where a part has dozens of pictures, its own are among them."""
    apart = null[null < SMALL_FLOOR]
    return apart if _level(null) >= LARGE and len(apart) >= APART * len(null) else null


def _level(null: NDArray[np.float64]) -> float:
    return 0.0 if len(null) < SMALL else float(np.quantile(null, 0.95))


def _threshold(null: NDArray[np.float64]) -> float:
    """The correlation from which a pair is a copy, given those of look-alikes; robust to a few copies among them."""
    if len(null) < SMALL:
        return SMALL_FLOOR
    return float(np.tanh(MARGIN + ALIKE * np.arctanh(np.clip(_level(null), 0, 0.99))))


def link(count: int, pairs: NDArray[np.int64], scores: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Labels (count,) of average linkage over the pairs that were compared: clusters merge, best first, while the
    mean score of the compared pairs between them reaches `threshold`. A score of exactly 0, a failed alignment, says
    nothing for or against a pair.
    """
    known = scores != 0
    pairs, scores = pairs[known, :2], scores[known]
    between: list[dict[int, tuple[float, int]]] = [{} for _ in range(count)]
    for (a, b), score in zip(pairs.tolist(), scores.tolist(), strict=True):
        between[a][b] = between[b][a] = (score, 1)
    heap = [(-score, a, b) for (a, b), score in zip(pairs.tolist(), scores.tolist(), strict=True) if score >= threshold]
    heapq.heapify(heap)
    label = np.arange(count)
    while heap:
        negative, a, b = heapq.heappop(heap)
        total, n = between[a].get(b, (0.0, 0))
        if n == 0 or -negative != total / n:
            continue  # one of them was merged meanwhile
        label[label == b] = a
        for other, (more, m) in between[b].items():
            del between[other][b]
            if other == a:
                continue
            total, n = between[a].get(other, (0.0, 0))
            between[a][other] = between[other][a] = (total + more, n + m)
            if (total + more) / (n + m) >= threshold:
                heapq.heappush(heap, (-(total + more) / (n + m), a, other))
        between[b] = {}
    return label


def _first(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every row the first row of its label."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
