"""Audio like speech: pulses at the speaker's pitch through the formants of changing vowels, louder on each syllable."""

import numpy as np

from mesm_data.synth.people import Mood, Person

SYLLABLES = 4.5  # per second
_LOUDNESS = 0.12  # peak of a neutral voice, of full scale
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))  # formants, Hz
_BANDWIDTHS = (70, 100, 150)  # Hz


def speak(person: Person, mood: Mood, seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """One person's voice, float32 [seconds * rate], without words."""
    count = round(seconds * rate)
    times = np.arange(count) / rate
    syllables = np.minimum((times * SYLLABLES).astype(int), max(int(seconds * SYLLABLES) - 1, 0))
    vowels = rng.integers(0, len(_VOWELS), syllables.max(initial=0) + 1)[syllables]
    accents = rng.uniform(0.5, 1.0, syllables.max(initial=0) + 1)[syllables]
    envelope = accents * np.abs(np.sin(np.pi * SYLLABLES * times))
    pitch = person.pitch * mood.pitch * (1.08 - 0.16 * times / max(seconds, 1e-9) + 0.04 * np.sin(12 * times))
    pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0.0)
    voice = np.zeros(count)
    for number, formants in enumerate(_VOWELS):
        voice += _filter(pulses * (vowels == number), _resonance(formants, person.tract, rate))
    voice *= envelope / max(float(np.abs(voice).max(initial=0.0)), 1e-9)
    return (_LOUDNESS * mood.loudness * voice).astype(np.float32)


def room_noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """The quiet of a room, about -62 dB, float32 [count]."""
    return rng.normal(0, 8e-4, count).astype(np.float32)


def to_pcm(audio: np.ndarray) -> np.ndarray:
    """float [...] as int16; values beyond full scale are clipped."""
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)


def _resonance(formants: tuple[int, int, int], tract: float, rate: int) -> np.ndarray:
    """Impulse response of the vowel, 30 ms."""
    times = np.arange(round(0.03 * rate)) / rate
    rings = (
        np.exp(-np.pi * bandwidth * times) * np.sin(2 * np.pi * formant / tract * times) / (k + 1)
        for k, (formant, bandwidth) in enumerate(zip(formants, _BANDWIDTHS, strict=True))
    )
    return np.asarray(sum(rings))


def _filter(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The signal through the response, as long as the signal."""
    size = 1 << (len(signal) + len(response)).bit_length()
    return np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(response, size), size)[: len(signal)]
