"""From one recording to the clips of its utterances, in one forward pass: `make_clips`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mesm_data.clip import Clip, Recipe
from mesm_data.errors import DOUBTFUL, Issue, MediaError
from mesm_data.faces.crops import centre_crop, crop_face
from mesm_data.faces.detector import Detection, FaceDetector
from mesm_data.faces.tracking import follow
from mesm_data.media.audio import sounds
from mesm_data.media.container import DecodeLog
from mesm_data.media.mel import mel_chunks, resample
from mesm_data.media.video import frames
from mesm_data.utterance import Utterance

END_TOLERANCE = 0.25  # seconds by which media may end before an utterance does, or before the other medium
SILENCE = 1e-3  # a peak below -60 dB of full scale
FULL_SCALE = 0.999  # a sample this large touches the bayes_optimal ...
CLIPPED_SHARE = 1e-3  # ... and a thousandth of them is heard as clipping
FACES_A_BATCH = 16
BYTES_HELD = (
    128_000_000  # of faceless pictures that may wait for a box of their utterance: 23 s of 720p, 2 min of IEMOCAP
)


class Outcome(NamedTuple):
    """What became of one utterance: a clip, or None and an Issue that says why; a clip may have doubtful Issues."""

    utterance: Utterance
    clip: Clip | None
    issues: tuple[Issue, ...]


def make_clips(root: Path, utterances: Sequence[Utterance], recipe: Recipe, detector: FaceDetector) -> list[Outcome]:
    """Clips of the utterances of ONE recording, decoded in one forward pass; in the order given.

    Memory grows with the clips and the longest faceless stretch, not with the recording. Media that cannot be used
    becomes an Issue of each utterance that it costs; nothing is raised for it.
    """
    source = utterances[0].source
    assert all((u.source.video, u.source.offset) == (source.video, source.offset) for u in utterances)
    film = _watch(root / source.video, utterances, recipe, detector)
    speakers = _choose_speakers(utterances, film)
    heard = _listen(root, utterances, recipe)
    return [
        _outcome(u, film, moments, speaker, sound, recipe)
        for u, moments, speaker, sound in zip(utterances, film.moments, speakers, heard, strict=True)
    ]


def frame_times(start: float, end: float, step: float) -> np.ndarray:
    """Seconds at which faces are taken: start + k * step, before the end; at least one."""
    count = max(1, math.ceil((end - start) / step - 1e-9))
    return start + step * np.arange(count)


# ---- the picture


@dataclass
class _Moment:
    """One wanted face: who is in view at this time, and what to take when nobody is."""

    time: float  # seconds of the recording
    corner: tuple[int, int]  # left and top of the speaker's part, in pixels of the whole picture
    image: np.ndarray | None  # the speaker's part; kept only until faces are found, or borrowed
    found: list[Detection] = field(default_factory=list)
    crops: list[np.ndarray] = field(default_factory=list)  # one for each found face
    borrowed: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # at another (moment, face)'s box
    centre: np.ndarray | None = None


@dataclass
class _Film:
    """What the picture of a recording gave: the moments of each utterance in time order, as far as they decode."""

    moments: list[list[_Moment]]
    log: DecodeLog = field(default_factory=DecodeLog)
    failure: Issue | None = None  # why there is no picture at all; its utterance is filled in later


def _watch(path: Path, utterances: Sequence[Utterance], recipe: Recipe, detector: FaceDetector) -> _Film:
    film = _Film([[] for _ in utterances])
    offset = utterances[0].source.offset
    wanted = sorted((t, n) for n, u in enumerate(utterances) for t in frame_times(u.start, u.end, recipe.step))
    batch: list[_Moment] = []
    try:
        until = max(u.end for u in utterances) - offset
        for frame in frames(path, [t - offset for t, _ in wanted], film.log, until=until):
            for n in (wanted[index][1] for index in frame.indices):
                corner, image = _part(frame.image, utterances[n].source.crop)
                film.moments[n].append(_Moment(frame.time + offset, corner, image))
                batch.append(film.moments[n][-1])
            if len(batch) >= FACES_A_BATCH:
                batch = _find_faces(batch, film, detector, recipe)
        _find_faces(batch, film, detector, recipe)
    except MediaError as error:
        detail = str(error).replace(str(path), utterances[0].source.video)  # where the raw folder lies must not show
        film.failure = Issue("", "undecodable" if path.exists() else "no-media", detail)
    for moments in film.moments:
        _borrow(moments, recipe)
    return film


def _find_faces(batch: list[_Moment], film: _Film, detector: FaceDetector, recipe: Recipe) -> list[_Moment]:
    """Detect, crop, and let pictures with a face go. Returns the next, empty batch."""
    by_size: dict[tuple[int, ...], list[tuple[_Moment, np.ndarray]]] = {}
    for moment in batch:
        assert moment.image is not None
        by_size.setdefault(moment.image.shape, []).append((moment, moment.image))
    for same in by_size.values():
        detected = detector.detect(np.stack([image for _, image in same]))
        for (moment, image), found in zip(same, detected, strict=True):
            moment.found = found
            moment.crops = [crop_face(image, face.box, recipe.face_size, recipe.face_margin) for face in found]
            moment.centre = centre_crop(image, recipe.face_size)
            moment.image = None if found else image
    for moments in film.moments:
        if sum(moment.image.nbytes for moment in moments if moment.image is not None) > BYTES_HELD:
            _borrow(moments, recipe)
    return []


def _borrow(moments: list[_Moment], recipe: Recipe) -> None:
    """Crop each waiting picture at every box that its utterance has shown, and let the picture go."""
    for waiting in moments:
        if waiting.image is None:
            continue
        for k, other in enumerate(moments):
            for face, detection in enumerate(other.found):
                crop = crop_face(waiting.image, detection.box, recipe.face_size, recipe.face_margin)
                waiting.borrowed[k, face] = crop
        waiting.image = None


def _part(image: np.ndarray, crop: tuple[float, float, float, float]) -> tuple[tuple[int, int], np.ndarray]:
    """Corner and pixels of the part of [H, W, 3] that lies between the fractions left, top, right, bottom."""
    height, width = image.shape[:2]
    left, right = round(crop[0] * width), round(crop[2] * width)
    top, bottom = round(crop[1] * height), round(crop[3] * height)
    return (left, top), np.ascontiguousarray(image[top:bottom, left:right])


def _choose_speakers(utterances: Sequence[Utterance], film: _Film) -> list[list[int | None]]:
    """For each moment of each utterance, which found face is the speaker's: the one on their track in the film."""
    chosen: list[list[int | None]] = [[None] * len(moments) for moments in film.moments]
    for track in sorted({(u.speaker, u.source.crop) for u in utterances}):
        seen = sorted(
            (moment.time, n, k)
            for n, u in enumerate(utterances)
            if (u.speaker, u.source.crop) == track
            for k, moment in enumerate(film.moments[n])
        )
        picks = follow([film.moments[n][k].found for _, n, k in seen])
        for (_, n, k), pick in zip(seen, picks, strict=True):
            chosen[n][k] = pick
    return chosen


def _face(moments: list[_Moment], speaker: list[int | None], k: int) -> np.ndarray:
    """The face at moment k: the speaker's own, else the crop at the nearest box of the utterance, else the centre."""
    pick = speaker[k]
    if pick is not None:
        return moments[k].crops[pick]
    near = sorted((abs(moments[j].time - moments[k].time), j) for j, face in enumerate(speaker) if face is not None)
    for _, j in near:
        face = speaker[j]
        if face is not None and (j, face) in moments[k].borrowed:
            return moments[k].borrowed[j, face]
    centre = moments[k].centre
    assert centre is not None
    return centre


# ---- the sound


@dataclass
class _Heard:
    """What one utterance sounds like, or why it cannot be heard."""

    mels: np.ndarray
    log: DecodeLog
    end: float = 0.0  # seconds of the recording at which its samples end
    peak: float = 0.0
    clipped: float = 0.0  # share of samples at full scale
    failure: str | None = None


def _listen(root: Path, utterances: Sequence[Utterance], recipe: Recipe) -> list[_Heard]:
    tracks: dict[tuple[str, int | None], list[int]] = {}
    for n, u in enumerate(utterances):
        tracks.setdefault((u.source.audio or u.source.video, u.source.channel), []).append(n)
    heard: dict[int, _Heard] = {}
    for (name, channel), members in tracks.items():
        offset, log = utterances[members[0]].source.offset, DecodeLog()
        failure = None
        try:
            spans = [(utterances[n].start - offset, utterances[n].end - offset) for n in members]
            for sound in sounds(root / name, spans, channel, log):
                n = members[sound.index]
                heard[n] = _hear(sound.samples, sound.rate, utterances[n].start, log, recipe)
        except MediaError as error:
            failure = str(error).replace(str(root / name), name)
        for n in members:
            heard.setdefault(n, _Heard(np.zeros((0, recipe.mels, recipe.chunk), np.float16), log, failure=failure))
    return [heard[n] for n in range(len(utterances))]


def _hear(samples: np.ndarray, rate: int, start: float, log: DecodeLog, recipe: Recipe) -> _Heard:
    loudness = np.abs(samples)
    return _Heard(
        mels=mel_chunks(resample(samples, rate, recipe.sample_rate), recipe),
        log=log,
        end=start + len(samples) / rate,
        peak=float(loudness.max(initial=0.0)),
        clipped=float((loudness >= FULL_SCALE).mean()) if len(samples) else 0.0,
    )


# ---- both together


def _outcome(
    u: Utterance, film: _Film, moments: list[_Moment], speaker: list[int | None], heard: _Heard, recipe: Recipe
) -> Outcome:
    unusable = _why_unusable(u, film, moments, heard)
    if unusable:
        return Outcome(u, None, (Issue(u.id, *unusable),))
    doubts = tuple(Issue(u.id, kind, detail) for kind, detail in _doubts(u, film, moments, speaker, heard, recipe))
    return Outcome(u, _clip(u, moments, speaker, heard, recipe, tuple(sorted({i.kind for i in doubts}))), doubts)


def _why_unusable(u: Utterance, film: _Film, moments: list[_Moment], heard: _Heard) -> tuple[str, str] | None:
    """Kind and detail of what rules the utterance out, if anything does."""
    offset = u.source.offset
    if film.failure:
        return film.failure.kind, film.failure.detail
    film_end, sound_end = film.log.end + offset, heard.log.end + offset
    claims = [end for log in (film.log, heard.log) for end in (log.claimed, log.end) if end is not None]
    if u.start - offset >= max(
        claims
    ):  # a file that was cut short still claims its full length: that is no mistake of the transcript
        return "after-media-end", f"media ends at {film_end:.2f} s, utterance starts at {u.start:.2f} s"
    if film_end < u.end - END_TOLERANCE:
        return "media-short", f"{u.source.video}: media ends at {film_end:.2f} s, utterance ends at {u.end:.2f} s"
    if not moments:
        return "undecodable", f"{u.source.video}: no frame between {u.start:.2f} s and {u.end:.2f} s decodes"
    name = u.source.audio or u.source.video
    if heard.failure:
        return "no-sound", heard.failure
    if heard.end < u.end - END_TOLERANCE:
        return "media-short", f"{name}: sound ends at {sound_end:.2f} s, utterance ends at {u.end:.2f} s"
    return None


def _doubts(
    u: Utterance, film: _Film, moments: list[_Moment], speaker: list[int | None], heard: _Heard, recipe: Recipe
) -> list[tuple[str, str]]:
    """Kind and detail of everything that makes the utterance doubtful."""
    doubts = []
    wanted = len(frame_times(u.start, u.end, recipe.step))
    if film.log.errors and len(moments) < wanted:
        doubts.append(("decode-errors", f"{wanted - len(moments)} of {wanted} frames could not be decoded"))
    if all(face is None for face in speaker):
        doubts.append(("no-face", f"no face found in {len(moments)} frames"))
    if heard.peak < SILENCE:
        doubts.append(("silent", f"loudest sample is {heard.peak:.5f} of full scale"))
    if heard.clipped > CLIPPED_SHARE:
        doubts.append(("clipped", f"{heard.clipped:.1%} of the samples are at full scale"))
    if film.log.claimed is not None and heard.log.claimed is not None:
        difference = heard.log.claimed - film.log.claimed
        if abs(difference) > END_TOLERANCE:
            longer = "longer" if difference > 0 else "shorter"
            doubts.append(("length-differs", f"sound is {abs(difference):.2f} s {longer} than the picture"))
    assert all(kind in DOUBTFUL for kind, _ in doubts)
    return doubts


def _clip(
    u: Utterance,
    moments: list[_Moment],
    speaker: list[int | None],
    heard: _Heard,
    recipe: Recipe,
    quality: tuple[str, ...],
) -> Clip:
    boxes = np.zeros((len(moments), 4), np.float32)
    scores = np.zeros(len(moments), np.float32)
    landmarks = np.zeros((len(moments), 5, 2), np.float32)
    for k, (moment, pick) in enumerate(zip(moments, speaker, strict=True)):
        if pick is not None:
            corner = np.array(moment.corner, np.float32)
            boxes[k] = moment.found[pick].box + np.tile(corner, 2)
            scores[k] = moment.found[pick].score
            landmarks[k] = moment.found[pick].landmarks + corner
    return Clip(
        utterance=u.id,
        faces=np.stack([_face(moments, speaker, k) for k in range(len(moments))]),
        face_times=np.array([moment.time for moment in moments], np.float32),
        face_boxes=boxes,
        face_scores=scores,
        face_landmarks=landmarks,
        face_found=np.array([pick is not None for pick in speaker]),
        mels=heard.mels,
        sample_rate=recipe.sample_rate,
        quality=quality,
    )
