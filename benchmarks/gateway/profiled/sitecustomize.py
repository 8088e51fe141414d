"""Put on PYTHONPATH by `profile` where py-spy may not attach: runs a gateway worker under cProfile."""

import atexit
import cProfile
import os
import sys

if "gateway.worker" in sys.orig_argv and "BENCHMARK_PROFILE" in os.environ:
    profiler = cProfile.Profile()
    profiler.enable()
    atexit.register(profiler.dump_stats, os.environ["BENCHMARK_PROFILE"])
