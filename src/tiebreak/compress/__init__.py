"""A judge with fewer bits: GPTQ, AWQ, NF4 and int8, each with a report of what it cost."""
