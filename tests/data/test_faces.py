"""Faces: the same ones that facenet-pytorch finds, exact crops, and the speaker's track among strangers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch.models.mtcnn import MTCNN as FacenetMTCNN
from facenet_pytorch.models.utils.detect_face import extract_face
from skimage.data import astronaut
from skimage.transform import resize

from mesm_data.faces.crops import centre_crop, crop_face, smallest_face
from mesm_data.faces.detector import Detection
from mesm_data.faces.mtcnn import MTCNN
from mesm_data.faces.tracking import follow, follow_all
from mesm_data.media.container import DecodeLog
from mesm_data.media.video import frames


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # as in a build; more would fight over the cores of a busy machine


@pytest.fixture(scope="module")
def detector() -> MTCNN:
    return MTCNN()


def portrait(side: int) -> np.ndarray:
    """A woman's head and shoulders, uint8 [side, side, 3]."""
    face = astronaut()[:240, 100:340]
    return (resize(face, (side, side), anti_aliasing=True) * 255).round().astype(np.uint8)


def scene(height: int, width: int, *people: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """A noisy grey picture [height, width, 3] with a portrait at each (left, top, side)."""
    noise = np.random.default_rng(seed)
    image = noise.normal(110, 6, (height, width, 3)).clip(0, 255).astype(np.uint8)
    for left, top, side in people:
        image[top : top + side, left : left + side] = portrait(side)
    return image


BEAM = np.zeros((1060, 1100, 3), np.uint8)
BEAM[:, 720:] = BEAM[720:] = 255

SCENES = {
    "half of a dialogue": np.stack([scene(480, 360, (40 + 9 * k, 120, 220)) for k in range(3)]),
    "two people, one, none": np.stack(
        [scene(300, 401, (10, 40, 150), (200, 90, 190)), scene(300, 401, (90, 10, 200)), scene(300, 401)]
    ),
    "a crowd": scene(223, 511, *((k * 85, 30 + 11 * k, 80) for k in range(6)))[None],
    "a small picture": scene(64, 90, (10, 2, 60))[None],
    "beyond the edge": scene(240, 240, (0, 0, 240))[None, 20:150, 60:190],
    "720 lines": scene(720, 640, (40, 20, 170), (230, 250, 400))[None],
    "1080 lines": scene(1080, 800, (150, 200, 500))[None],
    "as much light as one table holds": np.maximum(scene(1060, 1100, (200, 200, 500)), BEAM)[None],
}


@pytest.mark.parametrize("name", SCENES)
def test_boxes_scores_and_landmarks_equal_those_of_facenet_pytorch(detector: MTCNN, name: str) -> None:
    images = SCENES[name]
    for found, expected in zip(detector.detect(images), detect_with_facenet(images), strict=True):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert np.abs(ours.box - theirs.box).max() < 1e-3
            assert np.abs(ours.landmarks - theirs.landmarks).max() < 1e-3
            assert abs(ours.score - theirs.score) < 1e-5


def detect_with_facenet(images: np.ndarray) -> list[list[Detection]]:
    """What facenet-pytorch's own `detect` finds, picture by picture, largest first."""
    found = []
    theirs = FacenetMTCNN(keep_all=True, min_face_size=smallest_face(20, images.shape[1]))
    for image in images:
        boxes, scores, landmarks = theirs.detect(image[None], landmarks=True)
        faces = [] if boxes[0] is None else list(zip(boxes[0], scores[0], landmarks[0], strict=True))
        found.append([Detection(*face) for face in sorted(faces, key=lambda face: -area(face[0]))])
    return found


def area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def test_the_scenes_hold_the_faces_that_were_put_in(detector: MTCNN) -> None:
    assert {name: [len(faces) for faces in detector.detect(images)] for name, images in SCENES.items()} == {
        "half of a dialogue": [1, 1, 1],
        "two people, one, none": [2, 1, 0],
        "a crowd": [6],
        "a small picture": [1],
        "beyond the edge": [1],
        "720 lines": [2],
        "1080 lines": [1],
        "as much light as one table holds": [1],
    }


def test_real_people_are_found_as_facenet_pytorch_finds_them(detector: MTCNN, shared: Path) -> None:
    for film in sorted((shared / "media" / "grid").glob("*.mpg"))[:3]:
        images = np.stack([frame.image for frame in frames(film, [0.5, 1.5], DecodeLog())])
        for found, expected in zip(detector.detect(images), detect_with_facenet(images), strict=True):
            assert len(found) == len(expected) == 1
            assert np.abs(found[0].box - expected[0].box).max() < 1e-3


def test_a_face_does_not_depend_on_the_pictures_beside_it(detector: MTCNN) -> None:
    images = np.stack([scene(200, 240, (5 * k, 8, 150 + 5 * k), seed=k) for k in range(7)])
    images[5] = scene(200, 240)
    together = detector.detect(images)
    for size in (1, 3):
        apart = [faces for start in range(0, 7, size) for faces in detector.detect(images[start : start + size])]
        assert [len(faces) for faces in apart] == [len(faces) for faces in together]
        for ours, theirs in zip(apart, together, strict=True):
            assert [one.box for one in ours] == [pytest.approx(one.box, abs=1e-3) for one in theirs]
    assert [len(faces) for faces in together] == [1] * 5 + [0, 1]


def test_the_largest_face_comes_first(detector: MTCNN) -> None:
    faces = detector.detect(scene(300, 500, (5, 60, 120), (140, 10, 260))[None])[0]
    assert [area(face.box) for face in faces] == sorted((area(face.box) for face in faces), reverse=True)
    assert faces[0].box[0] > 150
    assert {face.box.dtype for face in faces} == {face.landmarks.dtype for face in faces} == {np.dtype(np.float32)}


def test_landmarks_are_eyes_nose_and_mouth(detector: MTCNN) -> None:
    left_eye, right_eye, nose, left_mouth, right_mouth = detector.detect(portrait(240)[None])[0][0].landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_faces_smaller_than_asked_for_are_not_found() -> None:
    image = scene(300, 400, (10, 10, 50), (150, 60, 220))[None]  # faces of about 25 and 110 pixels
    assert len(MTCNN(min_face=20).detect(image)[0]) == 2
    assert len(MTCNN(min_face=60).detect(image)[0]) == 1


def test_the_smallest_face_grows_with_the_pixels_of_the_picture_not_with_the_picture() -> None:
    assert [smallest_face(20, height) for height in (100, 480, 481, 720, 960, 1080)] == [20, 20, 40, 40, 40, 60]


def test_stricter_thresholds_find_fewer_faces() -> None:
    image = SCENES["a crowd"]
    assert MTCNN(thresholds=(0.6, 0.7, 1.0)).detect(image) == [[]]


@pytest.mark.parametrize("shape", [(0, 100, 100), (2, 19, 200), (1, 5, 5), (1, 1, 1), (3, 25, 20)])
def test_no_picture_and_pictures_smaller_than_a_face_give_no_face(detector: MTCNN, shape: tuple[int, ...]) -> None:
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == [[] for _ in range(shape[0])]


def test_torch_is_not_imported_before_a_detector_is_made() -> None:
    code = "import sys, mesm_data.faces.mtcnn; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


# ---- crops


def box_of(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([left, top, right, bottom], np.float32)


@pytest.mark.parametrize("box", [(50, 60, 142, 244), (3, 2, 49, 94), (-60, -10, 46, 94), (315, 435, 450, 570)])
def test_a_crop_holds_what_facenet_pytorch_cuts_out(box: tuple[int, ...]) -> None:
    """Their cut of a tensor equals OpenCV's of an array where all sides are multiples of 48; it drops fractions."""
    image = np.random.default_rng(0).integers(0, 256, (480, 360, 3)).astype(np.uint8)
    theirs = extract_face(torch.from_numpy(image), np.array(box, np.float64), 48, 2).permute(1, 2, 0).numpy()
    assert np.abs(crop_face(image, box_of(*box)) - theirs).max() <= 1


def test_a_crop_is_the_mean_of_the_area_under_each_pixel() -> None:
    image = np.zeros((3, 3, 3), np.uint8)
    image[:] = np.array([0, 90, 240])[:, None]  # three columns, the same in every colour
    assert crop_face(image, box_of(0, 0, 3, 3), size=2, margin=0)[0, :, 0].tolist() == [30, 190]


def test_a_small_face_is_enlarged_as_opencv_does() -> None:
    image = np.zeros((3, 3, 3), np.uint8)
    image[:] = np.array([0, 100, 200])[None, :, None]
    # cv2.resize(..., (5, 5), interpolation=cv2.INTER_AREA) of OpenCV 5.0
    assert crop_face(image, box_of(0, 0, 3, 3), size=5, margin=0)[0, :, 0].tolist() == [0, 33, 100, 167, 200]


@pytest.mark.parametrize(
    "box",
    [(-500, -500, -400, -400), (900, 900, 950, 950), (10, 10, 10, 10), (30.9, 5, 30.2, 2), (-1000, -1000, 1000, 1000)],
)
def test_a_box_that_misses_the_picture_still_gives_a_crop(box: tuple[float, ...]) -> None:
    image = np.full((40, 60, 3), 7, np.uint8)
    crop = crop_face(image, box_of(*box))
    assert crop.shape == (48, 48, 3)
    assert (crop == 7).all()


def test_the_centre_crop_is_centred() -> None:
    image = np.zeros((224, 300, 3), np.uint8)
    image[112, 150] = 255
    crop = centre_crop(image, 48)
    assert crop.shape == (48, 48, 3)
    assert np.argwhere(crop[..., 0]).tolist() == [[24, 24]]


@pytest.mark.parametrize("shape", [(10, 200), (200, 10), (1, 1), (47, 48), (30, 20)])
def test_the_centre_of_a_picture_that_is_too_small_is_enlarged(shape: tuple[int, int]) -> None:
    ramp = np.linspace(0, 200, shape[1]).astype(np.uint8)
    crop = centre_crop(np.broadcast_to(ramp[None, :, None], (*shape, 3)), 48)
    assert crop.shape == (48, 48, 3)
    assert abs(float(crop.mean()) - float(ramp.mean())) < 4


# ---- whose face


def face(x: float, y: float = 100, side: float = 60) -> Detection:
    """A face about (x, y)."""
    half = side / 2
    return Detection(box_of(x - half, y - half, x + half, y + half), 0.99, np.zeros((5, 2), np.float32))


def test_without_faces_nobody_is_followed() -> None:
    assert follow([]) == []
    assert follow([[], [], []]) == [None, None, None]


def test_the_only_face_is_the_speaker() -> None:
    assert follow([[face(100)], [face(110)], [], [face(90)], [face(300)]]) == [0, 0, None, 0, 0]


def test_two_frames_far_apart_keep_their_faces() -> None:
    assert follow([[face(50)], [face(600)]]) == [0, 0]


def test_of_two_people_who_stay_the_larger_one_is_the_speaker() -> None:
    speaker = [face(100 + 8 * (k % 3), side=80) for k in range(12)]
    stranger = [face(400 + 5 * (k % 4), side=60) for k in range(12)]
    assert follow([[s, t] for s, t in zip(stranger, speaker, strict=True)]) == [1] * 12


def test_someone_larger_who_only_passes_is_not_followed() -> None:
    candidates = [[face(100 + 4 * (k % 3), side=80)] for k in range(12)]
    for k, x in ((5, 500), (6, 380), (7, 280)):
        candidates[k].insert(0, face(x, side=110))
    assert follow(candidates) == [0] * 5 + [1] * 3 + [0] * 4


def test_a_stranger_seen_alone_for_a_moment_is_left_out() -> None:
    candidates = [[face(100, side=80)] for _ in range(10)]
    candidates[4] = [face(500, side=50)]
    candidates[5] = []
    candidates[6] = [face(505, side=50)]
    assert follow(candidates) == [0, 0, 0, 0, None, None, None, 0, 0, 0]


def test_after_a_cut_of_the_film_the_speaker_is_followed_at_the_new_place() -> None:
    candidates = [[face(100, side=80)]] * 5 + [[face(420, 160, side=200)]] * 5 + [[face(100, side=80)]] * 5
    assert follow(candidates) == [0] * 15


@pytest.mark.parametrize("speed", [10, 20, 25, 40])
@pytest.mark.parametrize("sizes", [(60, 60), (70, 60), (60, 45)])
def test_people_who_cross_are_told_apart(speed: int, sizes: tuple[int, int]) -> None:
    steps = range(-8, 9)
    right = [face(300 + speed * k, 100, sizes[0]) for k in steps]
    left = [face(300 - speed * k, 100, sizes[1]) for k in steps]
    candidates = [[a, b] if k % 2 else [b, a] for k, (a, b) in enumerate(zip(right, left, strict=True))]
    picked = [candidates[k][index].box for k, index in enumerate(follow(candidates)) if index is not None]
    whole = [np.stack([one.box for one in person]) for person in (right, left)]
    assert any((np.stack(picked) == person).all() for person in whole)
    if sizes[0] > sizes[1]:
        assert (np.stack(picked) == whole[0]).all()


def test_the_track_survives_frames_in_which_the_speaker_was_not_found() -> None:
    speaker = [face(150 + 30 * np.sin(k / 3), side=70) for k in range(30)]
    stranger = [face(420 - 6 * k, side=50) for k in range(30)]
    missed = {4, 11, 12, 20, 27}
    candidates = [[t] if k in missed else [t, s] for k, (s, t) in enumerate(zip(speaker, stranger, strict=True))]
    far = {k for k in missed if abs(float(stranger[k].box[0] - speaker[k].box[0])) > 60}
    followed = follow(candidates)
    assert [followed[k] for k in range(30) if k not in missed] == [1] * 25
    assert all(followed[k] is None for k in far)


def test_the_same_faces_give_the_same_track() -> None:
    noise = np.random.default_rng(1)
    candidates = [[face(*noise.uniform(50, 400, 3)) for _ in range(noise.integers(0, 9))] for _ in range(60)]
    assert follow(candidates) == follow([list(faces) for faces in candidates])
    largest = [max((area(one.box) for one in faces), default=0) for faces in candidates]
    assert len([index for index in follow(candidates) if index is not None]) > sum(size > 0 for size in largest) / 2


def test_everyone_who_stays_in_view_has_a_track_the_speaker_first() -> None:
    stays = [face(100 + 4 * (k % 3), side=80) for k in range(30)]
    also_stays = [face(400, side=60) for _ in range(30)]
    candidates = [[also, one] for one, also in zip(stays, also_stays, strict=True)]
    candidates[7].append(face(250, side=50))  # passes once: nobody
    candidates[9] = []
    speaker, other = follow_all(candidates)
    assert speaker == [1] * 9 + [None] + [1] * 20 == follow(candidates)
    assert other == [0] * 9 + [None] + [0] * 20
    assert follow_all([]) == follow_all([[], []]) == []
    assert follow_all([[face(100)]]) == [[0]]
