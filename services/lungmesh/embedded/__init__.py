"""The whole mesh on one machine: broker, Triton and services as processes over one directory."""
