"""From one recording to the clips of its utterances, in one forward pass: `make_clips`."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mesm_data.clip import Clip, Recipe
from mesm_data.errors import DOUBTFUL, Issue, MediaError
from mesm_data.faces.crops import centre_crop, crop_face
from mesm_data.faces.detector import Detection, FaceDetector
from mesm_data.faces.tracking import follow, follow_all
from mesm_data.media.audio import AudioSpan, audio_spans
from mesm_data.media.container import DecodeLog
from mesm_data.media.mel import mel_chunks, resample
from mesm_data.media.video import open_video
from mesm_data.utterance import Utterance

END_TOLERANCE = 0.25  # seconds by which media may end before an utterance does, or before the other medium
LONGEST = 86_400.0  # seconds; no recording lasts a day
MISSING_AUDIO = 0.05  # seconds that may be missing in the audio of an utterance; time stamps are no more exact
SHORTEST = 0.1  # seconds that must be left of an utterance that is cut at the end of the recording
SILENCE = 1e-3  # a peak below -60 dB of full scale
FULL_SCALE = 0.999  # a sample this large counts as clipped ...
CLIPPED_SHARE = 1e-3  # ... and audio with this share of them as clipping
FACES_A_BATCH = 16
BYTES_HELD = 128_000_000  # of faceless frames that may wait for a box: 23 s of 720p, 2 minutes of IEMOCAP


class Outcome(NamedTuple):
    """What became of one utterance: a clip, or None and an Issue that says why; a clip may have doubtful Issues."""

    utterance: Utterance
    clip: Clip | None
    issues: tuple[Issue, ...]


class FacesAt(NamedTuple):
    """The faces found at one moment, the largest first; boxes in pixels of the speaker's part of the frame."""

    time: float  # seconds of the recording
    faces: tuple[Detection, ...]


@dataclass(frozen=True)
class Decoded:
    """What one forward pass through a recording gave.

    Decoding stops after the last utterance. Where an utterance reaches beyond the recording, `video_end` and
    `audio_end` are therefore the true ends, whatever the header claims.
    """

    outcomes: tuple[Outcome, ...]  # one per utterance, in the order given
    faces: tuple[FacesAt, ...]  # everyone in view at each moment looked at, in time order
    video_end: float  # second of the recording at which the last decoded frame ends
    audio_end: float  # second at which the last decoded sample ends; of several audio files the earliest

    @property
    def end(self) -> float:
        """Second up to which both video and audio can be read."""
        return min(self.video_end, self.audio_end)


def make_clips(
    root: Path,
    utterances: Sequence[Utterance],
    recipe: Recipe,
    detector: FaceDetector,
    *,
    person: int = 1,
    cut: bool = False,
) -> Decoded:
    """Clips of the utterances of ONE recording, decoded in one forward pass.

    `person` chooses whose faces are taken where several people are in view: 1 is the one `follow` picks, the others
    are those of `follow_all`; where there are fewer people, every clip is `no-face`. With `cut`, an utterance that the
    recording ends within is given as far as it goes (`Outcome.utterance` has the new end), provided that `SHORTEST`
    seconds of it are left. Media that cannot be used becomes an Issue of each utterance that it costs; nothing is
    raised for it. Memory grows with the clips and the longest faceless stretch, not with the recording.
    """
    source = utterances[0].source
    assert all((u.source.video, u.source.offset) == (source.video, source.offset) for u in utterances)
    timed = [u for u in utterances if _times_fault(u) is None]
    video = _watch(root / source.video, timed, recipe, detector)
    audio = _listen(root, timed, recipe, video.log.end if cut else math.inf)
    if cut:
        timed = [_cut_at_end(u, video, heard) for u, heard in zip(timed, audio, strict=True)]
        for n, u in enumerate(timed):
            video.moments[n] = [moment for moment in video.moments[n] if moment.wanted < u.end]
    speakers = _choose_speakers(timed, video, person)
    made = iter([_outcome(u, video, n, speakers[n], audio[n], recipe) for n, u in enumerate(timed)])
    seen = [FacesAt(moment.time, tuple(moment.found)) for moments in video.moments for moment in moments]
    return Decoded(
        outcomes=tuple(_bad_times(u) or next(made) for u in utterances),
        faces=tuple(sorted(seen, key=lambda at: at.time)),
        video_end=video.log.end + source.offset,
        audio_end=min((heard.log.end for heard in audio), default=0.0) + source.offset,
    )


def _bad_times(u: Utterance) -> Outcome | None:
    fault = _times_fault(u)
    return Outcome(u, None, (Issue(u.id, "bad-times", fault),)) if fault else None


def _times_fault(u: Utterance) -> str | None:
    """Why no recording can have these times; None where one can. Asked first: nothing is made as long as they claim."""
    if not -END_TOLERANCE <= u.start - u.source.offset < u.end - u.source.offset <= LONGEST:
        return f"starts at {u.start:.7g} s and ends at {u.end:.7g} s; expected 0 <= start < end <= {LONGEST:.0f} s"
    return None


def frame_times(start: float, end: float, step: float) -> np.ndarray:
    """Seconds at which faces are taken: start + k * step, before the end; at least one."""
    count = max(1, math.ceil((end - start) / step - 1e-9))
    return start + step * np.arange(count)


# ---- video


@dataclass
class _Moment:
    """One wanted face: who is in view at this time, and what to take when nobody is."""

    wanted: float  # seconds of the recording; `time` is when the nearest frame is shown
    time: float
    corner: tuple[int, int]  # left and top of the speaker's part, in pixels of the whole frame
    image: np.ndarray | None  # the speaker's part; kept only until faces are found, or borrowed
    found: list[Detection] = field(default_factory=list)
    crops: list[np.ndarray] = field(default_factory=list)  # one for each found face
    borrowed: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # at another (moment, face)'s box
    centre: np.ndarray | None = None


@dataclass
class _Video:
    """The moments of each utterance in time order, as far as they decode."""

    moments: list[list[_Moment]]
    missed: Counter[int] = field(default_factory=Counter)  # by utterance: frames that did not decode
    log: DecodeLog = field(default_factory=DecodeLog)
    failure: Issue | None = None  # why there is no video at all; its utterance is filled in later


def _watch(path: Path, utterances: Sequence[Utterance], recipe: Recipe, detector: FaceDetector) -> _Video:
    video = _Video([[] for _ in utterances])
    if not utterances:
        return video
    offset = utterances[0].source.offset
    batch: list[_Moment] = []
    try:
        reader = open_video(path)
        wanted = _wanted(utterances, reader.end + offset, recipe.step)
        until = max(u.end for u in utterances) - offset
        for frame in reader.frames([time - offset for time, _ in wanted], video.log, until):
            for time, n in (wanted[index] for index in frame.indices):
                corner, image = _part(frame.image, utterances[n].source.crop)
                video.moments[n].append(_Moment(time, frame.time + offset, corner, image))
                batch.append(video.moments[n][-1])
            if len(batch) >= FACES_A_BATCH:
                batch = _find_faces(batch, video, detector, recipe)
        _find_faces(batch, video, detector, recipe)
        video.missed.update(wanted[index][1] for index in video.log.missed)
    except MediaError as error:
        detail = str(error).replace(str(path), utterances[0].source.video)  # the raw folder's own path must not show
        video.failure = Issue("", "undecodable" if path.exists() else "no-media", detail)
    for moments in video.moments:
        _borrow(moments, recipe)
    return video


def _wanted(utterances: Sequence[Utterance], end: float, step: float) -> list[tuple[float, int]]:
    """Time and utterance of each wanted frame, in time order, up to the end of the video."""
    within = [(n, u) for n, u in enumerate(utterances) if u.start < end]
    return sorted((time, n) for n, u in within for time in frame_times(u.start, min(u.end, end), step))


def _find_faces(batch: list[_Moment], video: _Video, detector: FaceDetector, recipe: Recipe) -> list[_Moment]:
    """Detect and crop faces, and drop the frames that have one. Returns the next, empty batch."""
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
    for moments in video.moments:
        if sum(moment.image.nbytes for moment in moments if moment.image is not None) > BYTES_HELD:
            _borrow(moments, recipe)
    return []


def _borrow(moments: list[_Moment], recipe: Recipe) -> None:
    """Crop each waiting frame at every box that its utterance has shown, and drop the frame."""
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


def _choose_speakers(utterances: Sequence[Utterance], video: _Video, person: int) -> list[list[int | None]]:
    """For each moment of each utterance, which found face is the speaker's: the one on their track in the video."""
    chosen: list[list[int | None]] = [[None] * len(moments) for moments in video.moments]
    for track in sorted({(u.speaker, u.source.crop) for u in utterances}):
        seen = sorted(
            (moment.time, n, k)
            for n, u in enumerate(utterances)
            if (u.speaker, u.source.crop) == track
            for k, moment in enumerate(video.moments[n])
        )
        picks = _track_of([video.moments[n][k].found for _, n, k in seen], person)
        for (_, n, k), pick in zip(seen, picks, strict=True):
            chosen[n][k] = pick
    return chosen


def _track_of(candidates: Sequence[Sequence[Detection]], person: int) -> list[int | None]:
    if person == 1:
        return follow(candidates)
    people = follow_all(candidates)
    return people[person - 1] if person <= len(people) else [None] * len(candidates)


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


# ---- audio


@dataclass
class _Audio:
    """The audio of one utterance, or why there is none."""

    mels: np.ndarray
    log: DecodeLog
    end: float = 0.0  # seconds of the recording at which its samples end
    missing: float = 0.0  # seconds that the file skips
    peak: float = 0.0
    clipped: float = 0.0  # share of samples at full scale
    failure: str | None = None


def _listen(root: Path, utterances: Sequence[Utterance], recipe: Recipe, until: float) -> list[_Audio]:
    """The audio of each utterance, up to the second `until` of the files."""
    tracks: dict[tuple[str, int | None], list[int]] = {}
    for n, u in enumerate(utterances):
        tracks.setdefault((u.source.audio or u.source.video, u.source.channel), []).append(n)
    heard: dict[int, _Audio] = {}
    for (name, channel), members in tracks.items():
        offset, log = utterances[members[0]].source.offset, DecodeLog()
        failure = None
        try:
            spans = [(utterances[n].start - offset, _audio_end(utterances[n], until)) for n in members]
            for span in audio_spans(root / name, spans, channel, log):
                n = members[span.index]
                heard[n] = _measure(span, utterances[n].start, log, recipe)
        except MediaError as error:
            failure = str(error).replace(str(root / name), name)
        for n in members:
            heard.setdefault(n, _Audio(np.zeros((0, recipe.mels, recipe.chunk), np.float16), log, failure=failure))
    return [heard[n] for n in range(len(utterances))]


def _audio_end(u: Utterance, until: float) -> float:
    end = u.end - u.source.offset
    return until if until < end - END_TOLERANCE else end


def _measure(span: AudioSpan, start: float, log: DecodeLog, recipe: Recipe) -> _Audio:
    samples, rate = span.samples, span.rate
    loudness = np.abs(samples)
    return _Audio(
        mels=mel_chunks(resample(samples, rate, recipe.sample_rate), recipe),
        log=log,
        end=start + len(samples) / rate,
        missing=span.missing,
        peak=float(loudness.max(initial=0.0)),
        clipped=float((loudness >= FULL_SCALE).mean()) if len(samples) else 0.0,
    )


# ---- both together


def _cut_at_end(u: Utterance, video: _Video, heard: _Audio) -> Utterance:
    """The utterance as far as the recording goes."""
    end = min(video.log.end, heard.log.end) + u.source.offset
    return replace(u, end=end) if u.start + SHORTEST <= end < u.end - END_TOLERANCE else u


def _outcome(u: Utterance, video: _Video, n: int, speaker: list[int | None], heard: _Audio, recipe: Recipe) -> Outcome:
    unusable = _why_unusable(u, video, video.moments[n], heard)
    if unusable:
        return Outcome(u, None, (Issue(u.id, *unusable),))
    doubts = tuple(Issue(u.id, kind, detail) for kind, detail in _doubts(u, video, n, speaker, heard, recipe))
    return Outcome(
        u, _clip(u, video.moments[n], speaker, heard, recipe, tuple(sorted({i.kind for i in doubts}))), doubts
    )


def _why_unusable(u: Utterance, video: _Video, moments: list[_Moment], heard: _Audio) -> tuple[str, str] | None:
    """Kind and detail of what rules the utterance out, if anything does."""
    offset = u.source.offset
    if video.failure:
        return video.failure.kind, video.failure.detail
    video_end, audio_end = video.log.end + offset, heard.log.end + offset
    # A file that was cut short still claims its full length; that is no mistake of the transcript.
    claims = [end for log in (video.log, heard.log) for end in (log.claimed, log.end) if end is not None]
    if u.start - offset >= max(claims):
        return "after-media-end", f"media ends at {video_end:.2f} s, utterance starts at {u.start:.2f} s"
    if video_end < u.end - END_TOLERANCE:
        return "media-short", f"{u.source.video}: media ends at {video_end:.2f} s, utterance ends at {u.end:.2f} s"
    if not moments:
        return "undecodable", f"{u.source.video}: no frame between {u.start:.2f} s and {u.end:.2f} s decodes"
    name = u.source.audio or u.source.video
    if heard.failure:
        return "no-sound", heard.failure
    if heard.end < u.end - END_TOLERANCE:
        return "media-short", f"{name}: audio ends at {audio_end:.2f} s, utterance ends at {u.end:.2f} s"
    return None


def _doubts(
    u: Utterance, video: _Video, n: int, speaker: list[int | None], heard: _Audio, recipe: Recipe
) -> list[tuple[str, str]]:
    """Kind and detail of everything that makes the utterance doubtful."""
    doubts = []
    if video.missed[n]:
        wanted = len(frame_times(u.start, u.end, recipe.step))
        doubts.append(("decode-errors", f"{video.missed[n]} of {wanted} frames could not be decoded"))
    if heard.missing > MISSING_AUDIO:
        doubts.append(("decode-errors", f"{heard.missing:.2f} s of the audio could not be decoded"))
    if all(face is None for face in speaker):
        doubts.append(("no-face", f"no face found in {len(video.moments[n])} frames"))
    if heard.peak < SILENCE:
        doubts.append(("silent", f"loudest sample is {heard.peak:.5f} of full scale"))
    if heard.clipped > CLIPPED_SHARE:
        doubts.append(("clipped", f"{heard.clipped:.1%} of the samples are at full scale"))
    if video.log.claimed is not None and heard.log.claimed is not None:
        difference = heard.log.claimed - video.log.claimed
        if abs(difference) > END_TOLERANCE:
            longer = "longer" if difference > 0 else "shorter"
            doubts.append(("length-differs", f"audio is {abs(difference):.2f} s {longer} than the video"))
    assert all(kind in DOUBTFUL for kind, _ in doubts)
    return doubts


def _clip(
    u: Utterance,
    moments: list[_Moment],
    speaker: list[int | None],
    heard: _Audio,
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
