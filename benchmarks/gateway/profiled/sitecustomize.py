"""Put on PYTHONPATH by `profile` where py-spy may not attach: SIGUSR1 puts a gateway worker under cProfile."""

import atexit
import cProfile
import os
import signal
import sys

if "gateway.worker" in sys.orig_argv and "BENCHMARK_PROFILE" in os.environ:
    profiler = cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profiler.enable())
    atexit.register(profiler.dump_stats, os.environ["BENCHMARK_PROFILE"])
