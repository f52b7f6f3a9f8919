"""Face detection: `mesm_data.faces.mtcnn.MTCNN` against facenet-pytorch's own `detect` on the same frames, as ratios.

    python -m benchmarks.bench_faces [--rounds 7] [--frames 8] [FILM ...]

Both sides have one thread and get the same batches, which is what facenet-pytorch is fastest with. Rounds alternate and
medians are compared. Frames are made from scikit-image's astronaut, who moves, grows and now and then is gone, and are
taken from the films given, half a second apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch.models.mtcnn import MTCNN as FacenetMTCNN
from PIL import Image
from skimage.data import astronaut

from mesm_data.faces.crops import smallest_face
from mesm_data.faces.mtcnn import MTCNN
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from mesm_data.media.video import frames

GOAL = 1.75
SIZES = {"224 x 224": (224, 224), "360 x 360": (360, 360), "360 x 480": (480, 360), "1280 x 720": (720, 1280)}
GOALS = {"224 x 224", "360 x 360"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=8, help="frames in a batch")
    parser.add_argument("films", nargs="*", type=Path, metavar="FILM")
    options = parser.parse_args()
    torch.set_num_threads(1)
    batches = {name: portraits(options.frames, *size) for name, size in SIZES.items()}
    batches |= {film.name: taken_from(film, options.frames) for film in options.films}
    for name, images in batches.items():
        compare(name, images, options.rounds)


def compare(name: str, images: np.ndarray, rounds: int) -> None:
    """One line: how much faster, how far the boxes are apart, and what `min_face` 40 would bring."""
    ours, small_faces_left_out = MTCNN(), MTCNN(min_face=40)
    theirs = FacenetMTCNN(keep_all=True, min_face_size=smallest_face(ours.min_face, images.shape[1]))
    fast, faster, plain = interleaved(
        rounds,
        lambda: ours.detect(images),
        lambda: small_faces_left_out.detect(images),
        lambda: theirs.detect(images),
    )
    boxes = [np.array([face.box for face in faces]).reshape(-1, 4) for faces in ours.detect(images)]
    expected = [np.zeros((0, 4)) if found is None else found for found in theirs.detect(images)[0]]
    goal = f" (goal >= {GOAL})" if name in GOALS else ""
    print(
        f"facenet-pytorch / ours, {name}: {plain / fast:.2f}{goal}, with min_face 40: {plain / faster:.2f}"
        f"  [{1000 * plain / len(images):.1f} ms, {1000 * fast / len(images):.1f} ms a frame];"
        f" {sum(map(len, boxes))} faces, boxes differ by at most {apart(boxes, expected):.0e} pixels"
    )


def apart(boxes: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference of any edge, in pixels; infinite where one side has found another number of faces."""
    if [len(found) for found in boxes] != [len(found) for found in expected]:
        return float("inf")
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(boxes, expected, strict=True))


def interleaved(rounds: int, *sides: Callable[[], object]) -> list[float]:
    """Median processor seconds of each side, run in turn: with one thread as good as the wall's, and steadier.

    A first round to warm up is not counted.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds + 1):
        for taken, side in zip(seconds, sides, strict=True):
            start = time.process_time()
            side()
            taken.append(time.process_time() - start)
    return [statistics.median(taken[1:]) for taken in seconds]


def portraits(count: int, height: int, width: int) -> np.ndarray:
    """Pictures [count, height, width, 3] of one person who moves; nobody is in the last one."""
    person = Image.fromarray(astronaut()[:240, 100:340])
    noise = np.random.default_rng(0)
    pictures = []
    for k in range(count):
        picture = Image.fromarray(noise.normal(100, 8, (height, width, 3)).clip(0, 255).astype(np.uint8))
        if k < count - 1:
            side = int(min(height, width) * (0.5 + 0.03 * (k % 5)))
            picture.paste(person.resize((side, side)), ((width - side) * (k + 1) // (count + 1), (height - side) // 2))
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def taken_from(film: Path, count: int) -> np.ndarray:
    times = np.linspace(0, probe(film).duration or 0, count, endpoint=False).tolist()
    return np.stack([frame.image for frame in frames(film, times, DecodeLog())])


if __name__ == "__main__":
    main()
