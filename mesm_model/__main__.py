"""`python -m mesm_model`, which is also what torchrun starts: the command `mesm`."""

from mesm_model.cli import main

main(prog_name="mesm")
