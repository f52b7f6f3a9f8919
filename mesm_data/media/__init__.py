"""Video and audio files: headers, frames at given times, samples between given times, mels, encoding."""
