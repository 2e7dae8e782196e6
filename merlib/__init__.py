"""The shared library of the study; docs/architecture.md says how its modules hang together."""

import os

# On a CPU oneDNN compiles a kernel for every shape of a product in bf16, and keeps 1024 of them: too few for batches of
# many lengths. With more, a step of GIA-MIC takes three quarters of the time (benchmarks/utterance_step.py). A kernel
# for a matrix unit (Intel's AMX) takes almost a megabyte: with 16384 of them, MFCRE grew to 13 GB in 90 epochs.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4096")

# Threads of OpenMP wait by running on. Where two programs share the processor, each keeps the other from it: a step of
# a text encoder on two threads took 11.5 s beside another training, and 1.5 s with threads that sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
