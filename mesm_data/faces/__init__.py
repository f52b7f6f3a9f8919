"""Faces in frames: detection, crops, and which face is the speaker's."""
