"""The house itself on simulated time, disks and networks: `python -m balsad.sim --seed N`."""
