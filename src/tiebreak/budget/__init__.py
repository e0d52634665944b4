"""What a judge takes on given hardware: time, memory, the longest input that fits."""
