"""Points the official client, and nothing else, at a server on loopback: its own code, its own requests."""

import os
import sys

if "FAKE_KAGGLE" in os.environ and "kaggle" in sys.orig_argv[1:4]:
    from kagglesdk import kaggle_env

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = os.environ["FAKE_KAGGLE"]
