"""A judge with fewer bits, and what that cost: GPTQ, AWQ, NF4 and int8, each with a parity report and a gate."""
