"""Face detection: `MTCNN`. Home of facenet-pytorch; torch is imported inside only.

Frames are uint8 [H, W, 3] RGB; boxes are left, top, right, bottom in pixels. N frames, K boxes.

MTCNN (Zhang et al. 2016) runs three networks over ever smaller copies of a frame: one proposes boxes, one refines
them, one decides and adds five landmarks. `MTCNN` has the networks and weights of facenet-pytorch 2.5.3 and returns
its boxes, in half its time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mesm_data.faces.crops import smallest_face
from mesm_data.faces.detector import Detection

if TYPE_CHECKING:
    from torch import Tensor


class MTCNN:
    """facenet-pytorch's detector for one core; boxes equal those of its own `detect` to 1e-3 pixels.

    The arithmetic is the same, its order is not: every resize and crop is read from one summed-area table (exact, as
    pixels are integers), the networks work channels-last on pieces that fit the cache, and overlapping boxes are
    removed in float64, so that no box depends on the others in the batch. benchmarks/bench_faces.py compares boxes and
    time.
    """

    def __init__(self, min_face: int = 20, thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)) -> None:
        """`min_face` is the smallest face, see `smallest_face`; each network drops what is below its threshold."""
        self.min_face = min_face
        self.thresholds = thresholds
        self._networks = _Networks()

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        """The faces in each of the frames [N, H, W, 3], the largest first; an empty list where there is none."""
        found: list[list[Detection]] = []
        for group in _groups(len(images), images.shape[1] * images.shape[2], _PIXELS_OF_SUMS):
            found += self._detect(images[group])
        return found

    def _detect(self, images: np.ndarray) -> list[list[Detection]]:
        sums = _table_of_sums(images)
        found: list[list[Detection]] = [[] for _ in images]
        boxes, owners = self._propose(sums)
        if len(boxes):
            boxes, owners = self._refine(sums, boxes, owners)
        if len(boxes):
            boxes, scores, landmarks, owners = self._decide(sums, boxes, owners)
            for k in np.argsort(-_areas(boxes), kind="stable"):
                found[owners[k]].append(Detection(boxes[k], float(scores[k]), landmarks[k]))
        return found

    def _propose(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Square boxes [K, 4] where the first network finds a face at some scale, and the frames [K] they lie in."""
        height, width = sums.shape[2] - 1, sums.shape[3] - 1
        cells = []
        for level, scale in enumerate(_pyramid(min(height, width), smallest_face(self.min_face, height))):
            rows, columns = int(height * scale + 1), int(width * scale + 1)
            for group in _groups(len(sums), rows * columns, _PIXELS_OF_INPUT):
                small = _shrink(sums[group], rows, columns)
                owner, row, column, score, shift = self._networks.propose(small, self.thresholds[0])
                corner = np.stack([column, row], 1).astype(np.float32) * 2 + 1  # a cell sees 12 pixels, every 2 pixels
                box = np.floor(np.concatenate([corner, corner + 11], 1) / np.float32(scale))
                cells.append((box, score, shift, owner + group.start, np.full(len(owner), level)))
        if not cells:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        boxes, scores, shifts, owners, levels = (np.concatenate(part) for part in zip(*cells, strict=True))
        kept = _without_overlaps(boxes, scores, owners * 64 + levels, 0.5)
        kept = kept[_without_overlaps(boxes[kept], scores[kept], owners[kept], 0.7)]
        boxes = boxes[kept]
        boxes = _square(boxes + shifts[kept] * np.tile(boxes[:, 2:] - boxes[:, :2], 2))
        return _within(boxes, owners[kept], height, width)

    def _refine(self, sums: np.ndarray, boxes: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The boxes that the second network accepts, moved as it says and squared again; and their frames."""
        shifts, scores = _in_pieces(self._networks.refine, 48, sums, boxes, owners, 24)
        sure = scores > self.thresholds[1]
        boxes, owners, shifts, scores = boxes[sure], owners[sure], shifts[sure], scores[sure]
        kept = _without_overlaps(boxes, scores, owners, 0.7)
        boxes = _square(_shifted(boxes[kept], shifts[kept]))
        return _within(boxes, owners[kept], sums.shape[2] - 1, sums.shape[3] - 1)

    def _decide(
        self, sums: np.ndarray, boxes: np.ndarray, owners: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The third network's faces: boxes [K, 4], scores [K], landmarks [K, 5, 2]; and their frames [K]."""
        shifts, points, scores = _in_pieces(self._networks.decide, 16, sums, boxes, owners, 48)
        sure = scores > self.thresholds[2]
        boxes, owners, shifts, points, scores = boxes[sure], owners[sure], shifts[sure], points[sure], scores[sure]
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides[:, None] + boxes[:, None, :2] - 1
        boxes = _shifted(boxes, shifts)
        kept = _without_nested(boxes, scores, owners, 0.7)
        return boxes[kept], scores[kept], landmarks[kept], owners[kept]


class _Networks:
    """The three networks, from arrays [K, H, W, 3] of pixels in -1..1 to arrays. All that needs torch."""

    def __init__(self) -> None:
        import torch
        from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

        self._p, self._r, self._o = (net().to(memory_format=torch.channels_last) for net in (PNet, RNet, ONet))

    def propose(self, pixels: np.ndarray, threshold: float) -> tuple[np.ndarray, ...]:
        """Frames, rows, columns [K] of the cells that pass the threshold; their probabilities and shifts [K, 4]."""
        import torch
        from torch.nn.functional import linear

        net = self._p
        with torch.inference_mode():
            x = _channels_last(pixels)
            x = _halved(_prelu(net.conv1(x), net.prelu1.weight))
            x = _prelu(net.conv2(x), net.prelu2.weight)
            x = _prelu(net.conv3(x), net.prelu3.weight).permute(0, 2, 3, 1)
            # A softmax over two is the sigmoid of their difference: one product per cell, not two.
            apart, bias = (part[1] - part[0] for part in (net.conv4_1.weight.flatten(1), net.conv4_1.bias))
            probability = (x @ apart + bias).sigmoid()
            owner, row, column = (probability >= threshold).nonzero().unbind(1)
            # A few cells in a thousand pass: only for these the shifts are computed.
            shifts = linear(x[owner, row, column], net.conv4_2.weight.flatten(1), net.conv4_2.bias)
            return tuple(part.numpy() for part in (owner, row, column, probability[owner, row, column], shifts))

    def refine(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Shifts [K, 4] and probabilities [K] of crops [K, 24, 24, 3]."""
        import torch

        with torch.inference_mode():
            shifts, scores = self._r(_channels_last(pixels))
            return shifts.numpy(), scores[:, 1].numpy()

    def decide(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Shifts [K, 4], landmarks [K, 10] in sides of the box, and probabilities [K] of crops [K, 48, 48, 3]."""
        import torch

        with torch.inference_mode():
            shifts, points, scores = self._o(_channels_last(pixels))
            return shifts.numpy(), points.numpy(), scores[:, 1].numpy()


_PIXELS_OF_SUMS = 2_800_000  # of the frames of one batch: their table takes 22 MB
_PIXELS_OF_INPUT = 65_000  # per call of the first network: its layers then stay in the cache
_BITS = 21  # per colour; three colours are packed in one number


def _table_of_sums(images: np.ndarray) -> np.ndarray:
    """[N, T, H + 1, W + 1]: the sum over all pixels above and to the left.

    One table (T = 1, int64) holds all colours, see `_packed`, so that each corner of an area is looked up once; but a
    frame of more than about 1060 rows has areas of which a colour's sum exceeds its bits: it takes a table per colour
    (T = 3, int32). Overflow does no harm: differences wrap back to the right value.
    """
    count, height, width, _ = images.shape
    largest = (min(height, width) / 12 + 2) ** 2  # the most pixels that become one: the pyramid ends at 12 a side
    together = 255 * largest < 1 << _BITS
    shape = (count, 1 if together else 3, height + 1, width + 1)
    sums = np.empty(shape, np.int64 if together else np.int32)
    sums[:, :, 0], sums[:, :, :, 0] = 0, 0
    for image, tables in zip(images, sums, strict=True):
        planes = [_packed(image)] if together else image.transpose(2, 0, 1)
        for plane, table in zip(planes, tables, strict=True):
            np.cumsum(plane, axis=1, dtype=sums.dtype, out=table[1:, 1:])
    for row in range(1, height):
        sums[:, :, row + 1] += sums[:, :, row]
    return sums


def _packed(image: np.ndarray) -> np.ndarray:
    """int64 [H, W]: red in the lowest 21 bits of a number, green and blue above; their sums hold all three."""
    packed = image[..., 2].astype(np.int64)
    for colour in (1, 0):
        packed <<= _BITS
        packed |= image[..., colour]
    return packed


def _shrink(sums: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The whole frames as [N, rows, columns, 3], every pixel the mean of the area it covers."""
    top, bottom = _areas_of(sums.shape[2] - 1, rows)
    left, right = _areas_of(sums.shape[3] - 1, columns)
    strips = _take(sums, bottom, 2)
    strips -= _take(sums, top, 2)
    totals = _take(strips, right, 3)
    totals -= _take(strips, left, 3)
    return _network_input(list(totals.swapaxes(0, 1)), (bottom - top)[:, None] * (right - left))


def _in_pieces(
    network: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    piece: int,
    sums: np.ndarray,
    boxes: np.ndarray,
    owners: np.ndarray,
    size: int,
) -> list[np.ndarray]:
    """The network's outputs for each box, `piece` boxes at a time, so that crops and layers stay in the cache."""
    answers = []
    for k in range(0, len(boxes), piece):
        answers.append(network(_crops(sums, boxes[k : k + piece], owners[k : k + piece], size)))
    return [np.concatenate(part) for part in zip(*answers, strict=True)]


def _crops(sums: np.ndarray, boxes: np.ndarray, owners: np.ndarray, size: int) -> np.ndarray:
    """What the boxes [K, 4] show of their frames [K], as [K, size, size, 3]."""
    height, width = sums.shape[2] - 1, sums.shape[3] - 1
    x0, y0, x1, y1 = _whole_pixels(boxes, height, width)
    top, bottom = _areas_of(y1 - y0, size)  # [K, size]
    left, right = _areas_of(x1 - x0, size)
    tables, plane = sums.shape[1], (height + 1) * (width + 1)
    first = (owners * tables * plane + y0 * (width + 1) + x0)[:, None]  # where in the first table a box begins
    above, below = (first + top * (width + 1))[:, :, None], (first + bottom * (width + 1))[:, :, None]
    left_of, right_of = left[:, None], right[:, None]
    totals = []
    for k in range(tables):
        table = sums.reshape(-1)[k * plane :]
        total = _take(table, below + right_of, 0)
        total -= _take(table, above + right_of, 0)
        total -= _take(table, below + left_of, 0)
        total += _take(table, above + left_of, 0)
        totals.append(total)
    return _network_input(totals, (bottom - top)[:, :, None] * (right - left)[:, None])


def _areas_of(pixels: int | np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel of each of the cells along a side, and the first one after it: torch's 'area' resize."""
    side, cell = np.asarray(pixels)[..., None], np.arange(cells)
    return side * cell // cells, -(-side * (cell + 1) // cells)


def _take(values: np.ndarray, where: np.ndarray, axis: int) -> np.ndarray:
    return np.take(values, where, axis, mode="clip")  # never out of range here; "raise" makes a slow second copy


def _network_input(totals: Sequence[np.ndarray], areas: np.ndarray) -> np.ndarray:
    """Means over the areas, from 0..255 to -1..1, as float32 [K, H, W, 3]; `totals` are [K, H, W] from each table."""
    if len(totals) == 1:
        totals = [totals[0] >> shift & (1 << _BITS) - 1 for shift in (0, _BITS, 2 * _BITS)]
    weights = (1 / 128 / areas).astype(np.float32)
    pixels = np.empty((*totals[0].shape, 3), np.float32)
    for colour, total in enumerate(totals):
        plane = total.astype(np.float32)
        plane *= weights
        plane -= np.float32(127.5 / 128)
        pixels[..., colour] = plane
    return pixels


def _groups(frames: int, pixels: int, most: int) -> Iterator[slice]:
    """Slices of about as many frames each, which together have at most `most` pixels or are one frame."""
    count = -(-frames // max(1, most // pixels))
    size = -(-frames // max(1, count)) or 1
    for start in range(0, frames, size):
        yield slice(start, min(start + size, frames))


def _pyramid(side: int, min_face: int) -> Iterator[float]:
    """Scales at which 12 pixels, the input size of the first network, cover faces of `min_face` pixels and more."""
    scale = 12 / min_face
    side_left = side * scale
    while side_left >= 12:
        yield scale
        scale *= 0.709
        side_left *= 0.709


def _channels_last(pixels: np.ndarray) -> "Tensor":
    import torch

    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _prelu(x: "Tensor", slopes: "Tensor") -> "Tensor":
    """PReLU over whole rows [W * C] at once: with 10 channels torch's own kernel is 5 times slower."""
    from torch.nn.functional import prelu

    n, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n * height, width * channels)
    return prelu(rows, slopes.repeat(width)).view(n, height, width, channels).permute(0, 3, 1, 2)


def _halved(x: "Tensor") -> "Tensor":
    """Max over 2 x 2, where an odd last row or column stands alone: 4 times faster here than torch's max_pool2d."""
    import torch

    x = x.permute(0, 2, 3, 1)
    for axis in (1, 2):
        whole = x.shape[axis] // 2 * 2
        pairs = x.narrow(axis, 0, whole).unflatten(axis, (-1, 2))
        larger = torch.maximum(*pairs.unbind(axis + 1))
        x = larger if whole == x.shape[axis] else torch.cat([larger, x.narrow(axis, whole, 1)], axis)
    return x.permute(0, 3, 1, 2)


def _whole_pixels(boxes: np.ndarray, height: int, width: int) -> tuple[np.ndarray, ...]:
    """First column and row of each box within the frame, and the ones after the last."""
    x0, y0, x1, y1 = boxes.astype(np.int64).T
    x0, y0 = np.maximum(x0, 1) - 1, np.maximum(y0, 1) - 1  # facenet-pytorch's boxes count pixels from 1
    return x0, y0, np.minimum(x1, width), np.minimum(y1, height)


def _within(boxes: np.ndarray, owners: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The boxes that share a pixel with their frame, and their frames."""
    x0, y0, x1, y1 = _whole_pixels(boxes, height, width)
    inside = (x1 > x0) & (y1 > y0)
    return boxes[inside], owners[inside]


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _square(boxes: np.ndarray) -> np.ndarray:
    """The boxes about the same centres, both sides as long as the longer one."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(1, keepdims=True, initial=0)
    start = boxes[:, :2] + sides * np.float32(0.5) - longest * np.float32(0.5)
    return np.concatenate([start, start + longest], 1)


def _shifted(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The boxes, each edge moved by so many sides of its box."""
    return boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def _without_overlaps(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, most: float) -> np.ndarray:
    """Indices of the boxes to keep, the likeliest first: none shares more than `most` of the union with a likelier one.

    Boxes of different groups never meet: each group is moved to a place of its own, in float64, which rounds nothing.
    """
    import torch
    from torchvision.ops import nms

    apart = boxes.astype(np.float64)
    apart -= apart.min(initial=0)
    apart += groups[:, None] * (apart.max(initial=0) + 1)
    return nms(torch.from_numpy(apart), torch.from_numpy(scores.astype(np.float64)), most).numpy()


def _without_nested(boxes: np.ndarray, scores: np.ndarray, owners: np.ndarray, most: float) -> np.ndarray:
    """Indices of the boxes to keep: none shares more than `most` of the smaller one's area with a likelier one."""
    kept: list[int] = []
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    for k in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if owners[other] == owners[k]]
        start, end = np.maximum(boxes[rivals, :2], boxes[k, :2]), np.minimum(boxes[rivals, 2:], boxes[k, 2:])
        shared = np.maximum(0, end - start + 1).prod(1)
        if (shared <= most * np.minimum(sides[rivals].prod(1), sides[k].prod())).all():
            kept.append(int(k))
    return np.array(kept, np.int64)
