"""Raw trees in the corpora's own layouts, for the demo, tests and benchmarks: faces, voices, words, quirks, faults.

Nothing is downloaded and nobody is recorded: faces are made of one public-domain photograph, voices of pulses. Every
frame carries its number, which `read_frame_number` reads, so that tests know which frame they were given.
"""

from mesm_data.synth.iemocap import write_iemocap
from mesm_data.synth.iemocap_text import write_iemocap_text
from mesm_data.synth.mosei import write_mosei
from mesm_data.synth.stamp import read_frame_number

__all__ = ["read_frame_number", "write_iemocap", "write_iemocap_text", "write_mosei"]
