"""Faces in frames: detection, crops, and tracks of the people in view."""
