"""Video and audio files: what headers claim, frames at given times, samples between given times, mels, encoding.

Seconds count from the first frame shown or sample heard. What decodes is trusted, headers are not: a `DecodeLog` says
how far a file reached, what was damaged, and which wanted frames did not come out.
"""
