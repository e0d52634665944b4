"""A chain of our own commands as a graph, run by Snakemake on this machine or on SLURM."""
