"""Language models on vLLM, in a process and mostly in an environment of its own. Importing this loads neither."""
